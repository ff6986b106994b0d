# ruff: noqa: N802 - methods are named as in the contract
"""Methods about changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from plumbline.errors import Unavailable
from plumbline.registry.v1 import changes_pb2 as pb
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceServicer
from registry_service import names, watching
from registry_service.calls import Calls
from registry_service.codec import changes as codec
from registry_service.news import News

#: A sign of life comes this often while nothing happens.
QUIET_SECONDS = 10.0


class ChangeMethods(ModelRegistryServiceServicer):
    """Watch."""

    _calls: Calls
    _news: News

    async def Watch(self, request: pb.WatchRequest, context: Any) -> AsyncIterator[pb.WatchResponse]:
        model = names.model("model", request.model) if request.model else ""
        kinds = tuple(request.kinds)
        token = codec.from_token(request.resume_token) if request.resume_token else None
        behind = await self._calls.read(lambda tx: watching.start(tx, token))
        yield pb.WatchResponse(resume_token=codec.to_token(behind))
        while not self._news.ended:
            if not await self._news.beyond(behind.sequence, QUIET_SECONDS):
                yield pb.WatchResponse(resume_token=codec.to_token(behind))
                continue
            batch = await self._calls.read(
                partial(watching.next_batch, behind=behind, kinds=kinds, model=model)
            )
            for event in batch.events:
                place = codec.to_token(watching.place_of(event))
                yield pb.WatchResponse(resume_token=place, event=codec.to_event(event))
            behind = batch.behind
        raise Unavailable("the registry stops; watch again from the last resume token")
