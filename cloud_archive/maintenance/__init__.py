"""Operations on an archive: check, verify, restore, report, prune and free; one file each.

Each is a function of settings, ledger and store that returns its result and prints nothing, so that the command and the
HTTP routes can share it.
"""
