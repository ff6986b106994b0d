"""gRPC retrieval of features defined with Feast: online, historical, pushed, materialized."""
