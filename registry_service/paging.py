"""Page tokens: where a list goes on, good only for the query they came from.

A token holds the key of the last item given (keyset paging: items added meanwhile neither shift nor
repeat anything) and a digest of the query. It is not secret, only opaque.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from plumbline.errors import FieldViolation
from plumbline.registry.errors import InvalidField, InvalidPageToken

DEFAULT_PAGE = 100
MAX_PAGE = 1_000

KeyPart = str | int


def page_size(asked: int) -> int:
    """How many items to give: 0 means 100, at most 1,000. Raises InvalidField below 0."""
    if asked < 0:
        message = f"page_size is {asked}; it must be 0 (for {DEFAULT_PAGE}) or more"
        raise InvalidField(
            message, metadata={"field": "page_size"}, violations=[FieldViolation("page_size", message)]
        )
    return min(asked or DEFAULT_PAGE, MAX_PAGE)


def encode_token(query: bytes, key: Sequence[KeyPart]) -> str:
    """The token that goes on behind the item of this key. query: what was asked, but for the paging."""
    body = json.dumps([_digest(query, key), *key], separators=(",", ":"))
    return base64.urlsafe_b64encode(body.encode()).decode().rstrip("=")


def decode_token(query: bytes, token: str, types: Sequence[type[KeyPart]]) -> tuple[Any, ...] | None:
    """The key in a token, None for the empty token. types: of the key's parts, in order.

    Raises InvalidPageToken when it is none of ours, was altered, or came from another query.
    """
    if not token:
        return None
    try:
        padded = token + "=" * (-len(token) % 4)
        body = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise invalid_token(token) from error
    if not isinstance(body, list) or len(body) != len(types) + 1:
        raise invalid_token(token)
    digest, *key = body
    if digest != _digest(query, key) or any(
        type(part) is not kind for part, kind in zip(key, types, strict=True)
    ):
        raise invalid_token(token)
    try:
        return tuple(whole(part) if isinstance(part, int) else part for part in key)
    except ValueError as error:
        raise invalid_token(token) from error


def whole(number: int) -> int:
    """The number, if databases keep it. Raises ValueError."""
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{number} has more than 63 bits")
    return number


def _digest(query: bytes, key: Sequence[KeyPart]) -> str:
    body = query + b"\x00" + json.dumps(list(key)).encode()
    return hashlib.sha256(body).hexdigest()[:16]


def invalid_token(token: str) -> InvalidPageToken:
    """The error for a token that is none of ours."""
    shown = token if len(token) <= 100 else f"{token[:100]}…"
    message = (
        f"page_token {shown!r} is not one this query returned; start again without one, and keep the "
        "other fields as they are from page to page"
    )
    return InvalidPageToken(
        message, metadata={"page_token": shown}, violations=[FieldViolation("page_token", message)]
    )
