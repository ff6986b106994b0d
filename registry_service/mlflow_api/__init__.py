"""MLflow's model registry over HTTP, answered from this registry: what either registers is the same."""
