"""Client of feature_service."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from google.protobuf import duration_pb2

from plumbline import feature_columns
from plumbline.calls import Client
from plumbline.columns import decode_table, encode_mapping
from plumbline.errors import DataLoss
from plumbline.feature_columns import FeatureTable
from plumbline.features import matrix
from plumbline.features.arrow_stream import ArrowReplies, HistoricalFeatures, OnProgress, historical_parts
from plumbline.features.errors import CLASSES
from plumbline.features.matrix import FeatureMatrix
from plumbline.features.v1 import definitions_pb2 as defs
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from plumbline.features.v1.feature_retrieval_service_pb2_grpc import FeatureRetrievalServiceStub
from plumbline.times import moment, timestamp
from plumbline.types.v1 import column_pb2

#: A feature service by name, or "view:feature" references.
Features = str | Sequence[str]

_MATRIX_TYPES = {
    np.dtype(np.float64): pb.MATRIX_TYPE_FLOAT64,
    np.dtype(np.float32): pb.MATRIX_TYPE_FLOAT32,
}


@dataclass(frozen=True)
class OnlineFeatures(FeatureTable):
    """The answer to an online read; definition_digest: of the definitions that answered; read_time: the
    moment that was now for ttl and max_age."""

    definition_digest: str
    read_time: datetime

    @classmethod
    def of(cls, reply: pb.GetOnlineFeaturesResponse) -> OnlineFeatures:
        """Raises MalformedColumn when the reply contradicts itself."""
        table = feature_columns.decode(reply.features, reply.view_event_times)
        return cls(
            table.values,
            table.statuses,
            table.event_times,
            table.views,
            reply.definition_digest,
            moment(reply.read_time),
        )


class FeatureClient(Client):
    """Typed calls to feature_service: see `plumbline.calls.Client` for the arguments.

    stream_timeout: seconds for a historical read or a materialization. Every method raises the errors
    of `plumbline.features.errors`, and `plumbline.errors.Unavailable` when the server cannot be reached.
    """

    errors = CLASSES

    def __init__(self, target: str, *, stream_timeout: float = 3600.0, **common: Any) -> None:
        super().__init__(target, **common)
        self._stub = FeatureRetrievalServiceStub(self._channel)
        self._stream_timeout = stream_timeout

    def get_online_features(
        self,
        features: Features,
        entities: Mapping[str, Any],
        *,
        request_data: Mapping[str, Any] | None = None,
        full_feature_names: bool = False,
        max_age: timedelta | None = None,
        defaults: Mapping[str, Any] | None = None,
        allow_partial: bool = False,
        expected_definition_digest: str = "",
    ) -> OnlineFeatures:
        """The latest values of n entities.

        entities: by join key, n values each (sequence, numpy or Arrow array). request_data: inputs of
        on-demand views, n values each. max_age: tighter than each view's ttl. defaults: by name in the
        reply, the value of cells that are not PRESENT. allow_partial: cells that the store does not answer in
        time are UNAVAILABLE, instead of StoreUnavailable for all. expected_definition_digest: raises
        DefinitionChanged when other definitions would answer.
        """
        request = pb.GetOnlineFeaturesRequest(
            selection=selection(features),
            entities=encode_mapping(entities),
            request_data=encode_mapping(request_data or {}),
            full_feature_names=full_feature_names,
            max_age=None if max_age is None else _duration(max_age),
            defaults=_one_row(defaults),
            allow_partial=allow_partial,
            expected_definition_digest=expected_definition_digest,
        )
        return OnlineFeatures.of(self._call(self._stub.GetOnlineFeatures, request))

    def get_feature_matrix(
        self,
        features: Features,
        entities: Mapping[str, Any],
        *,
        dtype: npt.DTypeLike = np.float64,
        request_data: Mapping[str, Any] | None = None,
        max_age: timedelta | None = None,
        defaults: Mapping[str, Any] | None = None,
        allow_partial: bool = False,
        expected_definition_digest: str = "",
    ) -> FeatureMatrix:
        """The latest values of n entities as one array; arguments as of `get_online_features`.

        dtype: float64 or float32; ValueError for another. Raises InvalidField where features are not numbers.
        """
        if np.dtype(dtype) not in _MATRIX_TYPES:
            raise ValueError(f"a matrix is of float64 or float32, not {np.dtype(dtype)}")
        request = pb.GetFeatureMatrixRequest(
            selection=selection(features),
            entities=encode_mapping(entities),
            request_data=encode_mapping(request_data or {}),
            max_age=None if max_age is None else _duration(max_age),
            defaults=_one_row(defaults),
            allow_partial=allow_partial,
            expected_definition_digest=expected_definition_digest,
            type=_MATRIX_TYPES[np.dtype(dtype)],
        )
        return matrix.decode(self._call(self._stub.GetFeatureMatrix, request), dtype)

    def get_historical_features(
        self,
        features: Features,
        entity_rows: pa.Table | pa.RecordBatchReader | str,
        *,
        event_timestamp_column: str = "event_timestamp",
        full_feature_names: bool = False,
        known_at_policy: pb.KnownAtPolicy.ValueType = pb.KNOWN_AT_POLICY_CREATED_BY_THEN,
        expected_definition_digest: str = "",
        on_progress: OnProgress | None = None,
    ) -> HistoricalFeatures:
        """The rows given, in their order, with the values known at each row's time added.

        Both directions stream: neither the rows nor the result need fit in memory, if `entity_rows` is a
        reader and the batches are used one by one. A string is the URI of Parquet that the server reads,
        below one of its data roots. event_timestamp_column: zone-aware, or naive and UTC.
        """
        header = pb.HistoricalFeaturesHeader(
            selection=selection(features),
            event_timestamp_column=event_timestamp_column,
            full_feature_names=full_feature_names,
            known_at_policy=known_at_policy,
            expected_definition_digest=expected_definition_digest,
            entity_rows_uri=entity_rows if isinstance(entity_rows, str) else "",
        )
        sent = None if isinstance(entity_rows, str) else entity_rows
        replies = self._stream(
            self._stub.GetHistoricalFeatures, historical_parts(header, sent), self._stream_timeout
        )
        source = ArrowReplies(replies, on_progress)
        # Arrow would wrap an error of the call in one of its own; the first bytes are read out here.
        source.fill()
        # Buffered: Arrow takes a short read for the end of the file, and a raw file may answer with one.
        file = pa.PythonFile(io.BufferedReader(source), mode="r")
        return HistoricalFeatures(pa.ipc.open_stream(file), source)

    def write_historical_features(
        self,
        features: Features,
        entity_rows: pa.Table | pa.RecordBatchReader | str,
        result_uri: str,
        *,
        event_timestamp_column: str = "event_timestamp",
        full_feature_names: bool = False,
        known_at_policy: pb.KnownAtPolicy.ValueType = pb.KNOWN_AT_POLICY_CREATED_BY_THEN,
        expected_definition_digest: str = "",
        on_progress: OnProgress | None = None,
    ) -> pb.HistoricalFeaturesSummary:
        """As get_historical_features, with the result written by the server, as Parquet at result_uri.

        entity_rows: also the URI of Parquet that the server reads. Both URIs must lie below one of the
        server's data roots, else InvalidField; so it is when something is at result_uri already.
        """
        header = pb.HistoricalFeaturesHeader(
            selection=selection(features),
            event_timestamp_column=event_timestamp_column,
            full_feature_names=full_feature_names,
            known_at_policy=known_at_policy,
            expected_definition_digest=expected_definition_digest,
            entity_rows_uri=entity_rows if isinstance(entity_rows, str) else "",
            result_uri=result_uri,
        )
        sent = None if isinstance(entity_rows, str) else entity_rows
        replies = self._stream(
            self._stub.GetHistoricalFeatures, historical_parts(header, sent), self._stream_timeout
        )
        source = ArrowReplies(replies, on_progress)
        source.drain()
        if source.summary is None:
            raise DataLoss("the server ended the stream without a summary")
        return source.summary

    def push(
        self,
        target: str,
        rows: Mapping[str, Any],
        *,
        destination: pb.PushDestination.ValueType = pb.PUSH_DESTINATION_ONLINE_AND_OFFLINE,
        mode: pb.PushMode.ValueType = pb.PUSH_MODE_ALL_OR_NOTHING,
        request_id: str | None = None,
    ) -> pb.PushFeaturesResponse:
        """Writes rows to a push source or view.

        rows: by column, n values each: join keys, features, the event timestamp (zone-aware).
        """
        request = pb.PushFeaturesRequest(
            target=target,
            columns=encode_mapping(rows),
            destination=destination,
            mode=mode,
            request_id=request_id or uuid.uuid4().hex,
        )
        return self._call(self._stub.PushFeatures, request, timeout=max(self._timeout, 60.0))

    def push_many(
        self,
        target: str,
        parts: Iterable[Mapping[str, Any]],
        *,
        destination: pb.PushDestination.ValueType = pb.PUSH_DESTINATION_ONLINE_AND_OFFLINE,
        mode: pb.PushMode.ValueType = pb.PUSH_MODE_ALL_OR_NOTHING,
        request_id: str | None = None,
    ) -> pb.PushFeaturesStreamResponse:
        """Writes many rows through one stream, as fast as the server takes them.

        parts: each as the rows of `push`, and a push of its own: it is accepted or refused by itself, and an
        error (metadata "message": which part, from 0) leaves the parts before it written. Part i has the
        request id "{request_id}-{i}", so the same parts sent again under the same id are a retry. What
        reading the parts raises of OSError, TypeError and ValueError is raised here, once the parts before
        are written.
        """
        whole = request_id or uuid.uuid4().hex
        broken: list[Exception] = []

        def requests() -> Iterator[pb.PushFeaturesStreamRequest]:
            try:
                for number, rows in enumerate(parts):
                    yield pb.PushFeaturesStreamRequest(
                        push=pb.PushFeaturesRequest(
                            target=target,
                            columns=encode_mapping(rows),
                            destination=destination,
                            mode=mode,
                            request_id=f"{whole}-{number}",
                        )
                    )
            except (OSError, TypeError, ValueError) as error:
                # Raised here it would be gRPC's, on a thread of its own.
                broken.append(error)

        reply = self._call(self._stub.PushFeaturesStream, requests(), timeout=self._stream_timeout)
        if broken:
            raise broken[0]
        return reply

    def sample_entities(self, features: Features, count: int, *, seed: int = 0) -> pa.Table:
        """At most `count` entities (1 to 10,000) that occur in the offline rows behind a selection, one
        column a join key; the same seed over the same rows draws the same."""
        request = pb.SampleEntitiesRequest(selection=selection(features), count=count, seed=seed)
        return decode_table(self._call(self._stub.SampleEntities, request, self._stream_timeout).entities)

    def materialize(
        self,
        views: Sequence[str] = (),
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        operation_id: str = "",
    ) -> Iterator[pb.MaterializeResponse]:
        """Brings offline rows online; yields progress. Without `start` each view goes on where it ended.

        operation_id: an interrupted run of the same id and range goes on where it stopped.
        """
        request = pb.MaterializeRequest(
            views=views, start_time=timestamp(start), end_time=timestamp(end), operation_id=operation_id
        )
        return self._stream(self._stub.Materialize, request, self._stream_timeout)

    def list_feature_services(self) -> Iterator[defs.FeatureService]:
        """All feature services, by name."""
        for page in self._pages(self._stub.ListFeatureServices, pb.ListFeatureServicesRequest()):
            yield from page.feature_services

    def get_feature_service(self, name: str) -> defs.FeatureService:
        """One feature service. Raises FeatureServiceNotFound."""
        return self._call(self._stub.GetFeatureService, pb.GetFeatureServiceRequest(name=name))

    def list_feature_views(self) -> Iterator[defs.FeatureView]:
        """All feature views, by name."""
        for page in self._pages(self._stub.ListFeatureViews, pb.ListFeatureViewsRequest()):
            yield from page.feature_views

    def get_feature_view(self, name: str) -> defs.FeatureView:
        """One feature view. Raises ViewNotFound."""
        return self._call(self._stub.GetFeatureView, pb.GetFeatureViewRequest(name=name))

    def get_entity(self, name: str) -> defs.Entity:
        """One entity. Raises EntityNotFound."""
        return self._call(self._stub.GetEntity, pb.GetEntityRequest(name=name))

    def list_entities(self) -> Iterator[defs.Entity]:
        """All entities, by name."""
        for page in self._pages(self._stub.ListEntities, pb.ListEntitiesRequest()):
            yield from page.entities


def selection(features: Features) -> pb.FeatureSelection:
    """The wire form of what is asked for."""
    if isinstance(features, str):
        return pb.FeatureSelection(feature_service=features)
    return pb.FeatureSelection(features=pb.FeatureReferences(references=features))


def _one_row(values: Mapping[str, Any] | None) -> list[column_pb2.Column]:
    """An Arrow scalar keeps its type."""
    return encode_mapping(
        {
            name: pa.array([value.as_py()], value.type) if isinstance(value, pa.Scalar) else pa.array([value])
            for name, value in (values or {}).items()
        }
    )


def _duration(span: timedelta) -> duration_pb2.Duration:
    result = duration_pb2.Duration()
    result.FromTimedelta(span)
    return result
