"""How each archived file was made: readers, workflow graphs, the local database, search, the segments in the bucket."""
