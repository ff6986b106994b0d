"""What the synchronous clients share: a channel, deadlines, typed errors, pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self, TypeVar

import grpc

from plumbline.channel import MAX_MESSAGE_BYTES, open_channel
from plumbline.errors import ErrorClasses
from plumbline.wire import translated

ReplyT = TypeVar("ReplyT")


class Page(Protocol):
    """A reply to a List call."""

    next_page_token: str


PageT = TypeVar("PageT", bound=Page)


class Client:
    """Base of the clients. Thread-safe; close it, or use it in a `with`.

    target: "host:port". actor: who acts, kept in histories. timeout: seconds for each short call.
    token: for servers that ask for one; then the actor is the token's.
    interceptors: as `grpc.intercept_channel` takes them, for traces. credentials: plain text unless given.
    max_message_bytes: the largest message sent or accepted, at least 1 MiB; the server has a limit of its
    own, PLUMBLINE_…_MAX_MESSAGE_BYTES.
    """

    #: The errors of the service called.
    errors: ClassVar[ErrorClasses]

    def __init__(
        self,
        target: str,
        *,
        actor: str = "",
        timeout: float = 10.0,
        interceptors: Sequence[Any] = (),
        credentials: grpc.ChannelCredentials | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        token: str = "",
    ) -> None:
        self.target = target
        self._channel = open_channel(
            target,
            interceptors=interceptors,
            credentials=credentials,
            max_message_bytes=max_message_bytes,
        )
        self._timeout = timeout
        claimed = (("plumbline-actor", actor),) if actor else ()
        self._metadata = (*claimed, *((("authorization", f"Bearer {token}"),) if token else ()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the channel; calls in flight are cancelled."""
        self._channel.close()

    def _call(self, method: Callable[..., ReplyT], request: Any, timeout: float | None = None) -> ReplyT:
        with translated(self.errors, self.target):
            return method(request, timeout=timeout or self._timeout, metadata=self._metadata)

    def _stream(
        self, method: Callable[..., Iterator[ReplyT]], request: Any, timeout: float
    ) -> Iterator[ReplyT]:
        with translated(self.errors, self.target):
            yield from method(request, timeout=timeout, metadata=self._metadata)

    def _pages(self, method: Callable[..., PageT], request: Any) -> Iterator[PageT]:
        while True:
            page = self._call(method, request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
