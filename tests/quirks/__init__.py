"""S3 dialects: a real store that speaks as another provider does."""
