"""Gives the errors that BentoML answers by itself the shape of all others."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Message, Receive, Send], Awaitable[None]]

#: Marks a reply that has the shape already.
SHAPED_HEADER = "x-plumbline-error"

_CODES = {404: "NOT_FOUND", 405: "UNIMPLEMENTED", 413: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}
_CODES |= {429: "RESOURCE_EXHAUSTED", 504: "DEADLINE_EXCEEDED"}


class ErrorShape:
    """ASGI middleware: an error of one of `paths` that is not shaped yet becomes
    {"error": {code, reason, message, metadata}}; its status stays."""

    def __init__(self, app: AsgiApp, paths: tuple[str, ...]) -> None:
        self._app, self._paths = app, paths

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in self._paths:
            await self._app(scope, receive, _Shaper(send).send)
        else:
            await self._app(scope, receive, send)


class _Shaper:
    """Holds an error back until it is whole; lets everything else through."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            names = {bytes(name).lower() for name, _ in message.get("headers", ())}
            if message["status"] >= 400 and SHAPED_HEADER.encode() not in names:
                self._start = message
                return
        if self._start is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        start, self._start = self._start, None
        body = json.dumps(_shaped(start["status"], self._body)).encode()
        replaced = (b"content-length", b"content-type")
        headers = [(name, value) for name, value in start.get("headers", ()) if name.lower() not in replaced]
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self._send({**start, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def _shaped(status: int, body: bytes) -> dict[str, Any]:
    code = _CODES.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
    return {"error": {"code": code, "reason": "", "message": _message(body), "metadata": {}}}


def _message(body: bytes) -> str:
    try:
        told = json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace").strip() or "the request cannot be answered"
    if isinstance(told, list) and told:
        told = told[0]
    if not isinstance(told, dict):
        return str(told)
    details = [
        f"{'.'.join(str(part) for part in item.get('loc', ())) or 'body'}: {item.get('msg', '')}"
        for item in told.get("detail") or ()
        if isinstance(item, dict)
    ]
    if details:
        return "the body is not as documented: " + "; ".join(details)
    return str(told.get("error", told))
