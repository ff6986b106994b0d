"""Model registry: models, immutable versions, aliases, evidence and lineage, over gRPC."""
