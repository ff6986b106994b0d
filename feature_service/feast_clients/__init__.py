"""What Feast's own clients talk to: its gRPC services and its HTTP paths."""
