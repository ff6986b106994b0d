"""One POST to a receiver, made so that nobody can use the registry to reach what only the registry can reach.

The host is looked up once, every address it has must be public, and the connection goes to just that address:
a name that means something else a moment later (DNS rebinding) is never asked again. Redirects are not
followed, proxies of the environment are not used, the certificate must be the host's, and little of the
answer is read but its status.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

from registry_service.threads import Threads
from registry_service.webhooks.addresses import Address
from registry_service.webhooks.receivers import ReceiverRules
from registry_service.webhooks.urls import Endpoint

#: The addresses of a host, in the order to try them. Raises OSError when there are none.
Resolver = Callable[[str], Awaitable[Sequence[Address]]]

_HEAD_BYTES = 16 * 1024
_BODY_BYTES = 8 * 1024
# What a well-behaved receiver may take to say the rest of its answer, which is thrown away.
_BODY_SECONDS = 1.0
_INTERIM_ANSWERS = 5
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)
# Of receivers that do not close the connection though asked to.
_LAST_CHUNK = b"\r\n0\r\n\r\n"


@dataclass(frozen=True)
class Outcome:
    """What became of a request. status: 0 when no answer came. error: "" for a 2xx."""

    status: int
    error: str

    @property
    def accepted(self) -> bool:
        return not self.error


class _Failure(Exception):
    """Nothing was sent, or no answer came; the message is for people."""


class Sender:
    """Sends requests. timeout: seconds for all of one, of which half may go into connecting."""

    def __init__(
        self,
        resolve: Resolver,
        rules: ReceiverRules,
        *,
        timeout: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.rules, self.timeout = rules, timeout
        self._resolve, self._tls = resolve, tls or ssl.create_default_context()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Sends JSON. Never raises for what the receiver, its address or the network does."""
        try:
            endpoint = self.rules.endpoint(url)
        except ValueError as error:
            return Outcome(0, f"not sent: url {error}")
        try:
            async with asyncio.timeout(self.timeout):
                return _judged(await self._exchange(endpoint, headers, body))
        except TimeoutError:
            return Outcome(0, f"no answer within {self.timeout:g} s")
        except _Failure as failure:
            return Outcome(0, str(failure))
        except ssl.SSLCertVerificationError as error:
            return Outcome(0, f"the receiver's certificate is not good: {error.verify_message}")
        except ssl.SSLError as error:
            return Outcome(0, f"no secure connection: {error.reason or 'the receiver ended it'}")
        except OSError as error:
            return Outcome(0, f"the connection broke: {_reason(error)}")

    async def _exchange(self, endpoint: Endpoint, headers: Mapping[str, str], body: bytes) -> int:
        connection = await self._connect(endpoint, await self._addresses(endpoint))
        try:
            reader, writer = await asyncio.open_connection(
                sock=connection,
                limit=_HEAD_BYTES,
                ssl=self._tls if endpoint.secure else None,
                server_hostname=endpoint.host if endpoint.secure else None,
            )
        except BaseException:
            connection.close()
            raise
        try:
            writer.write(_request(endpoint, headers, body))
            # Not drained first: a receiver may answer, and close, before it has read all.
            return await _status(reader)
        finally:
            writer.transport.abort()

    async def _addresses(self, endpoint: Endpoint) -> Sequence[Address]:
        try:
            found = [ip_address(endpoint.host)]
        except ValueError:
            try:
                found = list(await self._resolve(endpoint.host))
            except (OSError, UnicodeError) as error:
                raise _Failure("the host has no address") from error
        if not found:
            raise _Failure("the host has no address")
        # The address itself is not told: it may be a fact about a network that is not the asker's.
        if why := self.rules.refusal(found):
            raise _Failure(f"not sent: the host has an address that is not a public one ({why})")
        return found

    async def _connect(self, endpoint: Endpoint, addresses: Sequence[Address]) -> socket.socket:
        problem = ""
        for address in addresses:
            try:
                async with asyncio.timeout(self.timeout / 2):
                    return await _open(address, endpoint.port)
            except TimeoutError:
                problem = "it does not answer"
            except OSError as error:
                problem = _reason(error)
        raise _Failure(f"no connection to the host's port {endpoint.port}: {problem}")


async def _open(address: Address, port: int) -> socket.socket:
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (str(address), port))
    except BaseException:
        connection.close()
        raise
    return connection


def _request(endpoint: Endpoint, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [
        f"POST {endpoint.target} HTTP/1.1",
        f"Host: {endpoint.authority}",
        "User-Agent: plumbline-registry",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


async def _status(reader: asyncio.StreamReader) -> int:
    """The status of the final answer. Raises _Failure when it is not HTTP."""
    for _ in range(_INTERIM_ANSWERS):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise _Failure("the receiver closed the connection without an answer") from error
        except asyncio.LimitOverrunError as error:
            raise _Failure("the receiver's answer is not understood: its headers are too long") from error
        protocol, _, rest = head.partition(b" ")
        if not protocol.startswith(b"HTTP/1.") or not rest[:3].isdigit():
            raise _Failure("the receiver's answer is not HTTP")
        status = int(rest[:3])
        if status >= 200:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_BODY_SECONDS):
                    await _skip_body(reader, head)
            return status
    raise _Failure("the receiver's answer is not understood: it only says that it goes on")


async def _skip_body(reader: asyncio.StreamReader, head: bytes) -> None:
    """Reads the rest of an answer, so that the receiver can finish, up to a few KiB; it is thrown away."""
    length = _LENGTH.search(head)
    left = _BODY_BYTES if length is None else min(_BODY_BYTES, int(length.group(1)[:9]))
    end = b""
    while left > 0 and not end.endswith(_LAST_CHUNK):
        part = await reader.read(left)
        if not part:
            return
        left, end = left - len(part), (end + part)[-len(_LAST_CHUNK) :]


def _judged(status: int) -> Outcome:
    if 200 <= status < 300:
        return Outcome(status, "")
    if 300 <= status < 400:
        return Outcome(status, f"answered {status}, a redirect, which is not followed; name the final URL")
    return Outcome(status, f"answered {status}")


def _reason(error: OSError) -> str:
    # Not the text of the error, which may name the address.
    return os.strerror(error.errno).lower() if error.errno else "it ended"


def system_resolver(threads: Threads) -> Resolver:
    """The resolver of this machine. It may hang for long, so it is asked on threads nobody waits for."""

    async def resolve(host: str) -> Sequence[Address]:
        found = await threads.run(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
        # A zone ("fe80::1%eth0") is of no matter: such addresses are refused.
        return [ip_address(str(where[0]).partition("%")[0]) for *_, where in found]

    return resolve
