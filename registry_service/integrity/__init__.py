"""Whether the registry is still what its events say: the chain, the records, and the bytes."""
