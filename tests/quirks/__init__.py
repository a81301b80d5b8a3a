"""S3 dialects: a real store behind a proxy that answers as other providers do."""
