"""MLflow's model registry over HTTP, answered from this registry: what is registered by either is the same."""
