"""Operations on an archive: check, verify, restore, report, prune and free.

Each works on settings, ledger and store, returns its result and prints nothing, so that the command and the HTTP routes
can share it.
"""
