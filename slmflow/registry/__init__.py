"""Register models.

`preflight` validates the config, `ranking` selects the flavor, `gate` enforces the thresholds
against the reference and the `champion`, `versions` registers with the tags of `version_tags`.
"""
