"""Answers that are kept as long as nothing about their model has changed.

Every answer is checked to be current when it is given: the chain of events is asked first whether anything
was committed about the model since, by any process. What is read under such a check is as fresh as what is
read from the database; only cheaper.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

from registry_service.calls import Calls
from registry_service.domain import ModelVersion
from registry_service.news import News
from registry_service.ports import Changed, Transaction
from registry_service.summaries import VersionSummary

#: Of all kept answers together.
MAX_BYTES = 64 * 1024 * 1024
# What an answer costs beside its data, roughly.
_ENTRY_BYTES = 500
#: Models whose last change is remembered one by one.
_MOST_MODELS = 100_000


@dataclass(frozen=True)
class Answer:
    """What is sent, and the id of the model all of it depends on; None: it may depend on anything."""

    data: bytes
    model_id: int | None


def scope_of(versions: Iterable[ModelVersion | VersionSummary], model_id: int) -> int | None:
    """The model that all that is told of its versions depends on; None where one names another model."""
    origins = ((version.copied_from, version.ref.model) for version in versions)
    alone = all(origin is None or origin.model == model for origin, model in origins)
    return model_id if alone else None


def version_answer(data: bytes, version: ModelVersion | VersionSummary) -> Answer:
    """What is told of one version."""
    return Answer(data, scope_of([version], version.model_id))


class CachedReads:
    """Answers by what was asked."""

    def __init__(self, calls: Calls, news: News, max_bytes: int = MAX_BYTES) -> None:
        self._calls, self._news, self._max_bytes = calls, news, max_bytes
        self._kept: OrderedDict[Hashable, Answer] = OrderedDict()
        self._of_model: dict[int | None, set[Hashable]] = {}
        self._bytes = 0
        # The last change of models that changed since `_floor`; nothing read before the floor is kept.
        self._changes: dict[int, int] = {}
        self._floor = self._end = 0
        news.listen(self._forget)

    async def read(self, key: Hashable, work: Callable[[Transaction], Answer]) -> bytes:
        """What `work` finds, or found while nothing has changed since. key: of everything `work` depends on
        but the database. Errors are not kept."""
        await self._news.latest()
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found.data

        def read(transaction: Transaction) -> tuple[Answer, int]:
            return work(transaction), transaction.audit.head().sequence

        answer, sequence = await self._calls.read(read)
        if sequence >= self._last_change(answer.model_id):
            self._keep(key, answer)
        return answer.data

    def _last_change(self, model_id: int | None) -> int:
        return self._end if model_id is None else self._changes.get(model_id, self._floor)

    def _keep(self, key: Hashable, answer: Answer) -> None:
        self._drop(key)
        if len(answer.data) > self._max_bytes // 8:
            return
        self._kept[key] = answer
        self._of_model.setdefault(answer.model_id, set()).add(key)
        self._bytes += len(answer.data) + _ENTRY_BYTES
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: Hashable) -> None:
        gone = self._kept.pop(key, None)
        if gone is None:
            return
        self._bytes -= len(gone.data) + _ENTRY_BYTES
        keys = self._of_model[gone.model_id]
        keys.discard(key)
        if not keys:
            del self._of_model[gone.model_id]

    def _forget(self, changed: Changed) -> None:
        self._end = changed.sequence
        if changed.models is None or len(self._changes) > _MOST_MODELS:
            self._kept.clear()
            self._of_model.clear()
            self._changes.clear()
            self._bytes, self._floor = 0, changed.sequence
            return
        self._changes.update(dict.fromkeys(changed.models, changed.sequence))
        for model_id in (None, *changed.models):
            for key in list(self._of_model.get(model_id, ())):
                self._drop(key)
