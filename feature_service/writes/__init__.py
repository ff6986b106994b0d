"""Rows on their way into the stores: pushed, or materialized."""
