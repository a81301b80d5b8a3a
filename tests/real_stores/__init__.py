"""Real servers that no package registry of Python has: Ceph's RADOS Gateway and OpenStack Swift, run by hand."""
