"""What lies in the store, what needs it, and what may go.

`inventory` lists the store, `usage` asks the tracking servers what needs it, `pruning` selects and
removes; `tables` shows it.
"""
