"""An HTTP/1.1 connection that costs a load generator little: it sends bytes made before and parses no more of
a reply than where it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlencode

_HEAD_END = b"\r\n\r\n"


class HttpFailed(Exception):
    """A server answered with another status than 200, or not as HTTP asks for."""


class HttpConnection(asyncio.Protocol):
    """Calls, one after the other."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._received, self._body_at, self._end = bytearray(), 0, 0

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        """A connection of its own. Raises OSError."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, host, port)
        return connection

    async def __call__(self, request: bytes, *, timeout: float) -> bytes:  # noqa: ASYNC109 - as calls of grpc.aio
        """The body of the reply. Raises HttpFailed, OSError, TimeoutError."""
        if self._transport is None:
            raise ConnectionError("the server closed the connection")
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        late = loop.call_later(timeout, self._fail, TimeoutError(f"no answer for {timeout:g} s"))
        self._transport.write(request)
        try:
            return await self._answer
        finally:
            late.cancel()

    def close(self) -> None:
        """Ends the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._end:
            self._read_head()
        if self._end and len(self._received) >= self._end:
            body = bytes(self._received[self._body_at : self._end])
            del self._received[: self._end]
            self._body_at = self._end = 0
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(body)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(exc or ConnectionError("the server closed the connection"))

    def _read_head(self) -> None:
        end = self._received.find(_HEAD_END)
        if end < 0:
            return
        head = bytes(self._received[:end]).lower()
        at = head.find(b"\r\ncontent-length:")
        if at < 0:
            self._fail(HttpFailed(f"a reply without content-length: {head[:200]!r}"))
        elif b" 200 " not in head[:20]:
            self._fail(HttpFailed(f"{bytes(self._received[:500])!r}"))
        else:
            length = head[at + 17 :].partition(b"\r\n")[0]
            self._body_at = end + len(_HEAD_END)
            self._end = self._body_at + int(length)

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


def get(path: str, arguments: Mapping[str, str]) -> bytes:
    """A GET request as bytes."""
    query = f"?{urlencode(arguments)}" if arguments else ""
    return f"GET {path}{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def post(path: str, document: Mapping[str, Any]) -> bytes:
    """A POST request with a JSON body as bytes."""
    body = json.dumps(document).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
