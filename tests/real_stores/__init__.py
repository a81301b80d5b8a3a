"""Run the archive by hand on real servers that PyPI does not have: Ceph's RADOS Gateway and OpenStack Swift."""
