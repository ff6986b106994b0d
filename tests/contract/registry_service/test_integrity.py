"""A registry that only the registry changed is intact, on both databases."""

from __future__ import annotations
