"""The typed configuration: schema, composition of `conf/`, command-line overrides."""
