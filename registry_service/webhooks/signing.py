"""Signatures as the Standard Webhooks specification has them, so that its libraries verify them.

The signed text is "{webhook-id}.{webhook-timestamp}.{body}"; the signature is "v1," and the base64 of its
HMAC-SHA256. A secret of the form "whsec_…" is the base64 of the key; any other is the key itself, in UTF-8.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

MIN_SECRET, MAX_SECRET = 16, 256
_PREFIX = "whsec_"
_MIN_KEY_BYTES = 16


def secret_problem(secret: str) -> str | None:
    """What is wrong with a secret, completing "secret …", or None. The secret itself is not repeated."""
    if not MIN_SECRET <= len(secret) <= MAX_SECRET:
        return f"has {len(secret)} characters; it must have {MIN_SECRET} to {MAX_SECRET}"
    if "\x00" in secret:
        return "holds a NUL character"
    try:
        key = signing_key(secret)
    except (ValueError, binascii.Error):
        return f"begins with {_PREFIX} but goes on with something that is not base64"
    if len(key) < _MIN_KEY_BYTES:
        return f"stands for a key of {len(key)} bytes; at least {_MIN_KEY_BYTES} are needed"
    return None


def signing_key(secret: str) -> bytes:
    """The bytes that sign. Raises binascii.Error for a "whsec_" that is no base64."""
    if secret.startswith(_PREFIX):
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    return secret.encode()


def signed_headers(secret: str, message_id: str, seconds: int, body: bytes) -> Mapping[str, str]:
    """webhook-id, webhook-timestamp (seconds since 1970) and webhook-signature of a request."""
    signed = f"{message_id}.{seconds}.".encode() + body
    signature = base64.b64encode(hmac.digest(signing_key(secret), signed, hashlib.sha256)).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": f"v1,{signature}",
    }
