"""Bearer tokens: how they are made, and what of them is kept."""

from __future__ import annotations

import hashlib
import secrets


def new_token() -> str:
    """A fresh token: 256 bits of chance."""
    return f"plb_{secrets.token_urlsafe(32)}"


def digest_of(token: str) -> str:
    """64 hex digits, by which a server knows the token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
