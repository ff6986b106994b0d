"""The use case: rows in, predictions out, by the model that answers now."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plumbline.feature_columns import FeatureStatus, FeatureTable
from plumbline.features.client import OnlineFeatures
from plumbline.serving.errors import EmptyRequest, InvalidPredictionId, SignatureMismatch, TooManyRows
from serving.domain import Release
from serving.inputs import check_given_features, check_join_keys, check_request_data
from serving.metrics import PredictionMetrics
from serving.models import LoadedModel, ModelTable

#: Characters in a prediction id.
MAX_ID_LENGTH = 128

_STATUS_OF_VALIDITY = np.array([FeatureStatus.NULL_VALUE, FeatureStatus.PRESENT], np.uint8)


class Features(Protocol):
    """Where features come from; see FeatureGateway."""

    async def lookup(
        self,
        release: Release,
        join_keys: Mapping[str, pa.Array],
        request_data: Mapping[str, pa.Array],
        remaining: float | None,
    ) -> OnlineFeatures: ...


@dataclass(frozen=True)
class EntityRows:
    """n entities by key, whose features are looked up; request_data: what only the caller knows."""

    join_keys: pa.Table
    request_data: pa.Table


@dataclass(frozen=True)
class FeatureRows:
    """n rows of given features."""

    columns: pa.Table


@dataclass(frozen=True)
class PredictionRequest:
    """model: a name, or "" for the default. prediction_ids: one a row, or none. remaining_seconds: to
    the caller's deadline; None: it has none."""

    model: str
    rows: EntityRows | FeatureRows
    prediction_ids: tuple[str, ...] = ()
    return_features: bool = False
    remaining_seconds: float | None = None


@dataclass(frozen=True)
class Prediction:
    """outputs: by name, one value a row. features: the inputs as the model saw them, before category
    encoding, if they were asked for. definition_digest: "" for given features."""

    release: Release
    outputs: Mapping[str, npt.NDArray[np.floating]]
    prediction_ids: tuple[str, ...]
    features: FeatureTable | None
    definition_digest: str


class Predict:
    """Answers prediction requests. max_rows: in one request. inline_rows: scored on the event loop, for
    a thread would cost more than it frees; larger requests go to a thread."""

    def __init__(
        self,
        models: ModelTable,
        features: Features,
        metrics: PredictionMetrics,
        *,
        max_rows: int,
        inline_rows: int,
    ) -> None:
        self._models, self._features, self._metrics = models, features, metrics
        self._max_rows, self._inline_rows = max_rows, inline_rows

    async def __call__(self, request: PredictionRequest) -> Prediction:
        """Raises the errors of `plumbline.serving.errors`."""
        start = time.perf_counter()
        # Taken once: a version that comes into service meanwhile answers the next request.
        model = self._models.loaded(request.model)
        rows = self._count(request.rows)
        ids = _prediction_ids(request.prediction_ids, rows)
        inputs, digest = await self._inputs(model, request)
        columns = {name: inputs.values[name].combine_chunks() for name in inputs.values.column_names}
        if rows <= self._inline_rows:
            outputs = model.predictor.predict(columns, rows)
        else:
            outputs = await asyncio.to_thread(model.predictor.predict, columns, rows)
        self._metrics.observe(model.release.version, rows, time.perf_counter() - start)
        return Prediction(model.release, outputs, ids, inputs if request.return_features else None, digest)

    def _count(self, rows: EntityRows | FeatureRows) -> int:
        """Rows of a request. Raises EmptyRequest, TooManyRows."""
        if isinstance(rows, FeatureRows):
            count, field = rows.columns.num_rows, "features.columns"
        else:
            count, field = max(rows.join_keys.num_rows, rows.request_data.num_rows), "entities.join_keys"
        if count == 0:
            raise EmptyRequest(f"the request has no rows in `{field}`", metadata={"field": field})
        if count > self._max_rows:
            raise TooManyRows(
                f"the request has {count} rows; at most {self._max_rows} are allowed, so split it",
                metadata={"limit": str(self._max_rows), "actual": str(count)},
            )
        return int(count)

    async def _inputs(self, model: LoadedModel, request: PredictionRequest) -> tuple[FeatureTable, str]:
        """The model's inputs with their statuses, and the digest of the definitions they come from."""
        signature = model.release.signature
        if isinstance(request.rows, FeatureRows):
            given = check_given_features(request.rows.columns, signature)
            return _gather(model.release, given, None), ""
        join_keys = check_join_keys(request.rows.join_keys, signature)
        sent = check_request_data(request.rows.request_data, request.rows.join_keys, signature)
        if not signature.feature_service:
            return _gather(model.release, join_keys | sent, None), ""
        declared = {field.name for field in signature.request_data}
        found = await self._features.lookup(
            model.release,
            join_keys,
            {name: values for name, values in sent.items() if name in declared},
            request.remaining_seconds,
        )
        return _gather(model.release, join_keys | sent, found), found.definition_digest


def _gather(release: Release, sent: Mapping[str, pa.Array], found: OnlineFeatures | None) -> FeatureTable:
    """The model's inputs in order, out of what the caller sent and what was looked up. Raises
    SignatureMismatch when a feature did not come back."""
    by_reference = {} if found is None else {(found.views[n], n): n for n in found.values.column_names}
    values: dict[str, pa.Array] = {}
    statuses: dict[str, npt.NDArray[np.uint8]] = {}
    views: dict[str, str] = {}
    for item in release.signature.inputs:
        if found is None or item.from_caller:
            column = sent[item.name]
            values[item.name], views[item.name] = column, ""
            valid = column.is_valid().to_numpy(zero_copy_only=False)
            statuses[item.name] = np.where(valid, FeatureStatus.PRESENT, FeatureStatus.NULL_VALUE).astype(
                np.uint8
            )
            continue
        name = by_reference.get((item.view, item.feature))
        if name is None:
            raise SignatureMismatch(
                f"feature_service no longer gives {item.view}:{item.feature}, which {release.version} needs",
                metadata={"model": release.version, "column": item.name},
            )
        values[item.name], views[item.name] = found.values[name], item.view
        statuses[item.name] = found.statuses[name]
    times = {} if found is None else {v: t for v, t in found.event_times.items() if v in views.values()}
    return FeatureTable(pa.table(values), statuses, times, views)


def _prediction_ids(given: tuple[str, ...], rows: int) -> tuple[str, ...]:
    """Raises InvalidPredictionId unless there are none or one good one a row."""
    if not given:
        return tuple(uuid.uuid4().hex for _ in range(rows))
    problem = ""
    if len(given) != rows:
        problem = f"there are {len(given)} prediction ids for {rows} rows; send one a row, or none"
    elif len(set(given)) != rows:
        seen: set[str] = set()
        twice = next(item for item in given if item in seen or seen.add(item))  # type: ignore[func-returns-value]
        problem = f"prediction id {twice!r} comes twice"
    else:
        long = next((item for item in given if not 0 < len(item) <= MAX_ID_LENGTH), None)
        if long is not None:
            problem = (
                f"prediction id {long[:40]!r}… has {len(long)} characters; 1 to {MAX_ID_LENGTH} are allowed"
            )
    if problem:
        raise InvalidPredictionId(problem, metadata={"field": "prediction_ids"})
    return given
