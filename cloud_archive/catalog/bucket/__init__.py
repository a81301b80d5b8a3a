"""The catalog in the bucket: segments that every machine writes and reads, with no server and no lock."""
