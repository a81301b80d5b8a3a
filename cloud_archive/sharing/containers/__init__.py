"""What each container format keeps of a file when its metadata is removed, one module per format."""
