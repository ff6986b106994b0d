"""Calls about changes as they happen."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from plumbline.calls import Client
from plumbline.errors import Unavailable
from plumbline.registry.naming import model_name
from plumbline.registry.v1 import changes_pb2
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceStub
from plumbline.wire import translated

# A stream is renewed this often, so that one whose server vanished without a word does not last.
_STREAM_SECONDS = 300.0
_LEAST_PAUSE, _MOST_PAUSE = 0.05, 2.0


class WatchCalls(Client):
    """A part of `RegistryClient`."""

    _stub: ModelRegistryServiceStub

    def watch(
        self,
        *,
        resume_token: str = "",
        model: str = "",
        kinds: Sequence[str] = (),
        reconnect_seconds: float = 60.0,
    ) -> Iterator[changes_pb2.WatchResponse]:
        """Changes from now on, or from a token on, each once and in order; ends only by an error or when the
        iterator is closed.

        The stream begins when the first message is asked for. That has no event, but a token: what is read
        after it arrived and the events that follow miss nothing together. A message without event also comes
        every ten seconds while nothing happens.
        When the server cannot be reached the stream goes on where it was, unless that takes longer than
        `reconnect_seconds`: then Unavailable is raised, and a later call may go on with the last token.
        Raises ResumeTokenUnknown when the token is of another history.
        """
        lost: float | None = None
        pause = _LEAST_PAUSE
        while True:
            try:
                for message in self._watch_once(resume_token, model, kinds):
                    lost, pause = None, _LEAST_PAUSE
                    resume_token = message.resume_token
                    yield message
            except Unavailable:
                now = time.monotonic()
                lost = lost or now
                if now - lost > reconnect_seconds:
                    raise
                time.sleep(pause)
                pause = min(2 * pause, _MOST_PAUSE)

    def _watch_once(
        self, resume_token: str, model: str, kinds: Sequence[str]
    ) -> Iterator[changes_pb2.WatchResponse]:
        request = changes_pb2.WatchRequest(
            resume_token=resume_token, model=model_name(model) if model else "", kinds=kinds
        )
        end = time.monotonic() + _STREAM_SECONDS
        stream = self._stub.Watch(request, metadata=self._metadata)
        try:
            with translated(self.errors, self.target):
                for message in stream:
                    yield message
                    if time.monotonic() > end:
                        return
        finally:
            stream.cancel()
