"""Steps, their results and keys, MLflow runs, and the store of large files.

`step` runs a step; `results` are its outputs and `keys` identify them, by `source_code` among
others; `runs` finds and launches runs, `stale_runs` ends those of dead processes. `store` holds
large files, with `checksums`; `failures` and `tracking_errors` report what went wrong.
"""
