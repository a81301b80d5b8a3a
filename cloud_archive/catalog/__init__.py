"""How each archived file was made: readers, workflow graphs, the local database and search, the index in the bucket."""
