"""Complete use cases, from raw files to live predictions."""
