"""How a method of the service reaches its use case: on a thread, in one transaction."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TypeVar

from google.protobuf.message import Message

from plumbline.registry.errors import DatabaseUnavailable
from registry_service import paging
from registry_service.changes import Changes
from registry_service.domain import Act
from registry_service.paging import KeyPart
from registry_service.ports import Database, Request, Transaction
from registry_service.threads import Threads
from registry_service.writer import Writer
from servicekit.context import current_actor

T = TypeVar("T")
MessageT = TypeVar("MessageT", bound=Message)

#: A page is cut short, never empty, before its items have more bytes: messages are limited to 16 MiB.
PAGE_BYTES = 8 * 1024 * 1024


class Calls:
    """Runs use cases for the servicers.

    Every method raises DatabaseUnavailable after `patience` seconds without an answer. The thread is left
    to its wait, and a change may still be made by it: asked again with its request_id it is made once.
    """

    def __init__(
        self, database: Database, changes: Changes, threads: Threads, writer: Writer, patience: float
    ) -> None:
        """threads: for what only reads."""
        self._database, self._changes, self._threads = database, changes, threads
        self._writer, self._patience = writer, patience

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """What `work` finds in one unchanging state of the database."""
        return await self._patiently(self._threads.run(self._read, work))

    async def change(
        self, request: Message, reply: type[MessageT], work: Callable[[Transaction, Act], MessageT]
    ) -> MessageT:
        """The reply `work` makes, or made before under the request's id."""
        asked = _request(request)

        def answer(transaction: Transaction) -> bytes:
            return self._changes.answer(transaction, asked, lambda tx, act: work(tx, act).SerializeToString())

        return reply.FromString(await self._patiently(self._writer.run(answer)))

    async def write(self, work: Callable[[Transaction, Act], T]) -> T:
        """What `work` makes of a change whose requests carry no id, being harmless to repeat."""
        actor = current_actor()
        return await self.act(actor, work)

    def now(self) -> datetime:
        """The present moment, for answers that depend on it."""
        return self._changes.now()

    async def act(self, actor: str, work: Callable[[Transaction, Act], T]) -> T:
        """As `write`, in the name of somebody: a user known otherwise, or the registry itself."""
        return await self._patiently(self._writer.run(lambda tx: work(tx, self._changes.act(actor))))

    async def _patiently(self, answer: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._patience):
                return await answer
        except TimeoutError as error:
            raise DatabaseUnavailable(
                f"the registry's database gave no answer for {self._patience:g} s; try again, a change with "
                "the same request_id"
            ) from error

    def _read(self, work: Callable[[Transaction], T]) -> T:
        with self._database.read() as transaction:
            return work(transaction)


class Page:
    """One page of a list: where it begins, how long it is, and the token of the next."""

    def __init__(self, request: Message, size: int, token: str, key_types: Sequence[type[KeyPart]]) -> None:
        """request: whose page_size and page_token these are."""
        self._query = _without(request, "page_size", "page_token")
        self.size = paging.page_size(size)
        self.after = paging.decode_token(self._query, token, key_types)

    @property
    def limit(self) -> int:
        """How many items to read: one more than the page has, to know whether others follow."""
        return self.size + 1

    def cut(
        self, items: Sequence[T], encode: Callable[[T], MessageT], key: Callable[[T], Sequence[KeyPart]]
    ) -> tuple[list[MessageT], str]:
        """The messages of the page and the next token, "" on the last page."""
        messages: list[MessageT] = []
        room = PAGE_BYTES
        for item in items[: self.size]:
            message = encode(item)
            room -= message.ByteSize()
            if room < 0 and messages:
                break
            messages.append(message)
        if len(messages) == len(items):
            return messages, ""
        return messages, self.token(key(items[len(messages) - 1]))

    def token(self, key: Sequence[KeyPart]) -> str:
        """The token that goes on behind this key."""
        return paging.encode_token(self._query, key)


def _request(request: Message) -> Request:
    return Request(
        principal=current_actor(),
        method=request.DESCRIPTOR.name.removesuffix("Request"),
        request_id=request.request_id,  # type: ignore[attr-defined]
        fingerprint=hashlib.sha256(_without(request, "request_id")).hexdigest(),
    )


def _without(request: Message, *fields: str) -> bytes:
    """The request as bytes, the same for equal requests, without some fields."""
    copy = type(request)()
    copy.CopyFrom(request)
    for field in fields:
        copy.ClearField(field)
    return request.DESCRIPTOR.full_name.encode() + b"\x00" + copy.SerializeToString(deterministic=True)
