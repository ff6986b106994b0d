"""A receiver of webhooks on a free port, which answers as a test tells it to."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, parse_headers

#: What a receiver does once it has read a request; the connection is closed behind it.
Answer = Callable[[socket.socket], None]


@dataclass(frozen=True)
class Received:
    """One request. Names of headers in lower case."""

    line: str
    headers: Mapping[str, str]
    body: bytes


def status(code: int, *headers: str, body: bytes = b"") -> Answer:
    """A plain answer."""
    lines = [f"HTTP/1.1 {code} So", f"Content-Length: {len(body)}", *headers, "", ""]
    return lambda connection: connection.sendall("\r\n".join(lines).encode() + body)


def closes(_connection: socket.socket) -> None:
    """No answer at all."""


def says(raw: bytes) -> Answer:
    """These very bytes."""
    return lambda connection: connection.sendall(raw)


class Receiver:
    """Answers 200 unless told otherwise."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Received] = []
        self.answers: deque[Answer] = deque()
        self.always: Answer = status(200)
        self.stopping = threading.Event()
        self._tls = tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def ids(self) -> list[str]:
        """The message ids that came, in order."""
        return [request.headers["webhook-id"] for request in self.requests]

    def hangs(self, _connection: socket.socket) -> None:
        """No answer while the test lasts."""
        self.stopping.wait(60)

    def drips(self, connection: socket.socket) -> None:
        """An answer that never gets anywhere, a byte at a time."""
        while not self.stopping.wait(0.01):
            connection.sendall(b"H")

    def stop(self) -> None:
        self.stopping.set()
        # Closing alone does not wake a thread in accept().
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(30)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(30)
        with contextlib.suppress(OSError, HTTPException), connection:
            if self._tls is None:
                self._answer(connection)
                return
            with self._tls.wrap_socket(connection, server_side=True) as secured:
                self._answer(secured)

    def _answer(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            line = stream.readline().decode("latin-1").strip()
            headers = {name.lower(): value for name, value in parse_headers(stream).items()}
            body = stream.read(int(headers.get("content-length", 0)))
        answer = self.answers.popleft() if self.answers else self.always
        self.requests.append(Received(line, headers, body))
        answer(connection)


@contextmanager
def receiver(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    running = Receiver(tls)
    try:
        yield running
    finally:
        running.stop()
