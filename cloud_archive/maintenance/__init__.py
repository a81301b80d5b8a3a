"""Operations: one module for each thing that is asked of an archive beside archiving.

Each is a plain function of its settings, ledger and store that returns frozen results and prints nothing; command
and HTTP routes show them alike.
"""
