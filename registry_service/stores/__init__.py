"""Where artifact bytes are kept: the adapters behind `ports_blobs.BlobStore`, and the folder of uploads under
way."""
