"""The process and the machine: child processes, locks, memory, git, Databricks."""
