"""Remove the metadata from each container format: one module for each, which lists what it keeps."""
