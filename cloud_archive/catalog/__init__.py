"""How each archived file was made: readers, graphs, and later the local index and search."""
