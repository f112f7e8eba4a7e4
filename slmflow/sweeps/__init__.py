"""Sweeps: evaluate many points of the config under one parent run and choose the best one."""
