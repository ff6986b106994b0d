"""Channels to the suite's servers: limits, keepalive and retries set once, on purpose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import grpc

#: Servers and clients of the suite accept and send messages of at most this many bytes, unless set otherwise.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
#: No server may be set to less.
MIN_MESSAGE_BYTES = 64 * 1024
#: No client may be: parts of streams have up to a half.
CLIENT_MIN_MESSAGE_BYTES = 1024 * 1024
#: More than what is around the bytes that a message carries.
ENVELOPE_BYTES = 64

# A call that reached no server changed nothing, so UNAVAILABLE alone is safe to retry here; anything
# else is the caller's decision.
_SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 3,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)


def channel_options(max_message_bytes: int = MAX_MESSAGE_BYTES) -> list[tuple[str, Any]]:
    """Options of every channel the suite opens. Raises ValueError below CLIENT_MIN_MESSAGE_BYTES."""
    if max_message_bytes < CLIENT_MIN_MESSAGE_BYTES:
        raise ValueError(
            f"max_message_bytes is {max_message_bytes}; a client needs at least {CLIENT_MIN_MESSAGE_BYTES}"
        )
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.service_config", _SERVICE_CONFIG),
        ("grpc.enable_retries", 1),
        # Below the 5 minutes after which servers and load balancers drop silent connections.
        ("grpc.keepalive_time_ms", 120_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Reconnect quickly after a restart of the server instead of after up to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]


def open_channel(
    target: str,
    *,
    interceptors: Sequence[Any] = (),
    credentials: grpc.ChannelCredentials | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> grpc.Channel:
    """A synchronous channel. target: "host:port"; plain text unless credentials are given."""
    options = channel_options(max_message_bytes)
    channel = (
        grpc.insecure_channel(target, options)
        if credentials is None
        else grpc.secure_channel(target, credentials, options)
    )
    return grpc.intercept_channel(channel, *interceptors) if interceptors else channel


def open_aio_channel(
    target: str,
    *,
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
    credentials: grpc.ChannelCredentials | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> grpc.aio.Channel:
    """An asyncio channel. target: "host:port"; plain text unless credentials are given."""
    options = channel_options(max_message_bytes)
    if credentials is None:
        return grpc.aio.insecure_channel(target, options, interceptors=list(interceptors))
    return grpc.aio.secure_channel(target, credentials, options, interceptors=list(interceptors))
