"""The gRPC side: each method decodes, calls one use case, and encodes."""
