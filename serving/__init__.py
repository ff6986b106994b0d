"""Predictions of registered models over gRPC and HTTP."""
