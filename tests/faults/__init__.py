"""The fault harness: a store that misbehaves, a process that is killed, a filesystem that never rests."""
