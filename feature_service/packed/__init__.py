"""Packed online rows: one value per (view, entity key), in an embedded or a remote key-value store."""
