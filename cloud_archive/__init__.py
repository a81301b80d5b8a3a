"""Cloud Archive: archives everything ComfyUI generates to S3 or S3-compatible storage, and proves it."""

__version__ = "0.1.0"
