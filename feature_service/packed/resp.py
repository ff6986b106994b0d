"""One connection to a Redis server that all requests of an event loop share.

Requests are written as they come and answered in their order, so that many wait at the same time without a
connection each, and those of one turn of the loop leave in one packet. A request whose waiter is cancelled is
answered into the void; the connection stays fit for use.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import hiredis

from feature_service.packed.redis_options import RedisOptions

#: The bytes of a command; hiredis's own types know of commands of one word only.
pack_command = cast("Callable[[Sequence[Any]], bytes]", hiredis.pack_command)
#: An error the server answers, as a value.
ReplyError = hiredis.ReplyError

#: Seconds during which a server that could not be reached is not tried again: at first, and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class RedisAway(ConnectionError):
    """The server cannot be reached, closed the connection or did not answer in time."""


@dataclass
class _Request:
    done: asyncio.Future[list[Any]]
    missing: int
    deadline: float
    replies: list[Any] = field(default_factory=list)


class _Connection(asyncio.Protocol):
    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        self._loop, self._timeout = loop, timeout
        self._reader = hiredis.Reader()
        self._waiting: deque[_Request] = deque()
        self._unsent: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._why = "the server closed the connection"

    @property
    def open(self) -> bool:
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, payload: bytes, replies: int) -> asyncio.Future[list[Any]]:
        """Sends commands; the future gives as many replies."""
        done: asyncio.Future[list[Any]] = self._loop.create_future()
        if self._transport is None:
            done.set_exception(RedisAway(self._why))
            return done
        self._waiting.append(_Request(done, replies, self._loop.time() + self._timeout))
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(payload)
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout, self._check)
        return done

    def data_received(self, data: bytes) -> None:
        reader, waiting = self._reader, self._waiting
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not False:
                request = waiting[0]
                request.replies.append(reply)
                request.missing -= 1
                if not request.missing:
                    waiting.popleft()
                    if not request.done.done():
                        request.done.set_result(request.replies)
        except (hiredis.ProtocolError, IndexError) as error:
            self.close(f"the server does not speak Redis's protocol: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._why = str(exc) or type(exc).__name__
        self._give_up()

    def close(self, why: str) -> None:
        """Ends the connection; whoever waits gets RedisAway."""
        self._why = why
        if self._transport is not None:
            self._transport.abort()
        self._give_up()

    def _flush(self) -> None:
        if self._transport is not None and self._unsent:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def _check(self) -> None:
        self._watch = None
        if not self._waiting:
            return
        left = self._waiting[0].deadline - self._loop.time()
        if left <= 0:
            # Replies come in order: behind one that is late, all are.
            self.close(f"no answer within {self._timeout:g} s")
        else:
            self._watch = self._loop.call_later(left, self._check)

    def _give_up(self) -> None:
        self._transport = None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        while self._waiting:
            request = self._waiting.popleft()
            if not request.done.done():
                request.done.set_exception(RedisAway(self._why))


class RespClient:
    """A server, for one event loop. Connects when first asked, and anew after a connection was lost."""

    def __init__(self, node: tuple[str, int], options: RedisOptions) -> None:
        self._node, self._options = node, options
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[_Connection] | None = None
        self._pause, self._not_before, self._why = 0.0, 0.0, ""

    async def call(self, payload: bytes, replies: int) -> list[Any]:
        """Sends commands, gives their replies, errors among them as ReplyError. Raises RedisAway.

        Commands that may have been lost with a connection are sent once more, so they must be such that it
        does no harm.
        """
        connection = self._connection
        if connection is not None and connection.open:
            try:
                return await connection.send(payload, replies)
            except RedisAway as error:
                if "no answer" in str(error):
                    raise
        connection = await self._connected()
        return await connection.send(payload, replies)

    def close(self) -> None:
        """Ends the connection."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.close("the store was closed")

    async def _connected(self) -> _Connection:
        if self._connecting is None:
            loop = asyncio.get_running_loop()
            if loop.time() < self._not_before:
                raise RedisAway(self._why)
            self._connecting = loop.create_task(self._connect())
            self._connecting.add_done_callback(self._finished)
        # Others wait for it too; and who gives up must not take it with them.
        return await asyncio.shield(self._connecting)

    def _finished(self, task: asyncio.Task[_Connection]) -> None:
        self._connecting = None
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._connection, self._pause = task.result(), 0.0
            return
        self._why = str(error)
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
        self._not_before = asyncio.get_running_loop().time() + self._pause

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        options = self._options
        tls = options.tls()
        host, port = self._node
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(options.timeout):
                _, connection = await loop.create_connection(
                    lambda: _Connection(loop, options.timeout),
                    host,
                    port,
                    ssl=tls,
                    server_hostname=host if tls is not None and tls.check_hostname else None,
                )
                commands = _greeting(options)
                if commands:
                    replies = await connection.send(
                        b"".join(pack_command(command) for command in commands), len(commands)
                    )
                    for reply in replies:
                        if isinstance(reply, ReplyError):
                            raise RedisAway(str(reply))
        except TimeoutError as error:
            raise RedisAway(f"no connection within {options.timeout:g} s") from error
        except RedisAway:
            if connection is not None:
                connection.close("refused")
            raise
        except OSError as error:
            raise RedisAway(str(error)) from error
        return connection


def _greeting(options: RedisOptions) -> Sequence[tuple[str, ...]]:
    given = options.parameters
    commands: list[tuple[str, ...]] = []
    if given.get("password"):
        user = [str(given["username"])] if given.get("username") else []
        commands.append(("AUTH", *user, str(given["password"])))
    if given.get("db"):
        commands.append(("SELECT", str(given["db"])))
    return commands
