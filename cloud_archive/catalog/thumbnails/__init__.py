"""Thumbnails: made in a child process with limits, kept in a cache of limited size."""
