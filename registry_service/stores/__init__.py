"""Where artifact bytes are kept: the adapters behind `ports.BlobStore`, and the folder of uploads under
way."""
