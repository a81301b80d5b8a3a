"""How each archived file was made: readers, graphs, and later the local index and search."""

from .describe import Description, Job, describe

__all__ = ["Description", "Job", "describe"]
