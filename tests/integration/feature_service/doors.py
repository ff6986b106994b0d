"""The ways in which a client reads features: our own contract and every client of Feast's."""

from __future__ import annotations

import base64
import json
import math
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from feast import FeatureStore
from feast.protos.feast.serving import ServingService_pb2 as serving_pb
from feast.protos.feast.serving.GrpcServer_pb2_grpc import GrpcFeatureServerStub
from feast.protos.feast.serving.ServingService_pb2_grpc import ServingServiceStub
from feast.protos.feast.types.Value_pb2 import RepeatedValue
from feast.repo_config import RepoConfig
from feast.type_map import python_values_to_proto_values

from plumbline.types.v1 import feature_column_pb2
from tests.integration.feature_service.conftest import Running

Entities = Mapping[str, Sequence[Any]]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Column:
    """One feature: a value and a status a row, and when its row happened (None: not told)."""

    values: list[Any]
    statuses: list[str]
    times: list[datetime | None] | None


@dataclass(frozen=True)
class Question:
    """What is read: a service by name, or references."""

    features: str | tuple[str, ...]
    entities: Entities
    request_data: Entities = field(default_factory=dict)
    full_names: bool = False


def native(server: Running, question: Question) -> dict[str, Column]:
    """plumbline.features.v1.FeatureRetrievalService."""
    features = question.features if isinstance(question.features, str) else list(question.features)
    found = server.client.get_online_features(
        features,
        question.entities,
        request_data=question.request_data,
        full_feature_names=question.full_names,
    )
    names = {number: name.removeprefix("FEATURE_STATUS_") for name, number in _STATUSES.items()}
    answer = {}
    for name in found.values.column_names:
        times = found.event_times.get(found.views[name])
        answer[name] = Column(
            [_plain(value) for value in found.values[name].to_pylist()],
            [names[status] for status in found.statuses[name].tolist()],
            None if times is None else times.to_pylist(),
        )
    return answer


def feature_server(server: Running, question: Question) -> dict[str, Column]:
    """GrpcFeatureServer, by the stub that Feast generates."""
    reply = GrpcFeatureServerStub(server.channel).GetOnlineFeatures(grpc_request(question))
    return _from_message(reply, question)


def serving_service(server: Running, question: Question) -> dict[str, Column]:
    """feast.serving.ServingService, by the stub that Feast generates."""
    reply = ServingServiceStub(server.channel).GetOnlineFeatures(grpc_request(question, context=True))
    return _from_message(reply, question)


def http(server: Running, question: Question) -> dict[str, Column]:
    """POST /get-online-features by hand."""
    status, reply = post(server.http + "/get-online-features", http_request(question))
    assert status == 200, reply
    answer = {}
    for name, result in zip(reply["metadata"]["feature_names"], reply["results"], strict=True):
        times = [datetime.fromisoformat(text) for text in result["event_timestamps"]]
        values = [base64.b64decode(v) if name == "bytes" and v else _plain(v) for v in result["values"]]
        if name == "bytes_list":
            values = [None if v is None else [base64.b64decode(item) for item in v] for v in values]
        answer[name] = Column(values, result["statuses"], [None if t == EPOCH else t for t in times])
    return _features_only(answer, question)


def remote(server: Running, question: Question) -> dict[str, Column]:
    """Feast's SDK, its online store the remote one: it drops the times of rows, and bytes stay base64."""
    answer = sdk(remote_store(server), question)
    return {
        name: Column(
            [_decoded(item) for item in column.values] if name.startswith("bytes") else column.values,
            column.statuses,
            None,
        )
        for name, column in answer.items()
    }


def sdk(store: FeatureStore, question: Question) -> dict[str, Column]:
    """Feast's SDK with the online store it is configured with."""
    features, entities = _selected(store, question), {**question.entities, **question.request_data}
    reply = store.get_online_features(features, entities, full_feature_names=question.full_names)
    return _from_sdk(reply.proto, question)


async def sdk_async(store: FeatureStore, question: Question) -> dict[str, Column]:
    """As `sdk`, by the SDK's asynchronous call."""
    features, entities = _selected(store, question), {**question.entities, **question.request_data}
    reply = await store.get_online_features_async(features, entities, question.full_names)
    return _from_sdk(reply.proto, question)


def remote_store(server: Running) -> FeatureStore:
    """A FeatureStore as somebody on another machine configures it."""
    config = RepoConfig(
        project="tiny",
        provider="local",
        registry=str(Path(server.repo) / "data" / "registry.db"),
        online_store={"type": "remote", "path": server.http, "connection_retries": 0},
        offline_store={"type": "feature_service.stores.asof.AsofOfflineStore"},
        entity_key_serialization_version=3,
    )
    return FeatureStore(config=config)


def post(url: str, body: Any, **headers: str) -> tuple[int, Any]:
    """Status and JSON of a reply."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.loads(reply.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def grpc_request(question: Question, *, context: bool = False) -> serving_pb.GetOnlineFeaturesRequest:
    """context: request data under request_context, where the Go server looks for it."""
    request = serving_pb.GetOnlineFeaturesRequest(full_feature_names=question.full_names)
    if isinstance(question.features, str):
        request.feature_service = question.features
    else:
        request.features.val.extend(question.features)
    for name, values in question.entities.items():
        request.entities[name].CopyFrom(_repeated(values, int32=name == "small_id"))
    for name, values in question.request_data.items():
        target = request.request_context if context else request.entities
        target[name].CopyFrom(_repeated(values))
    return request


def http_request(question: Question) -> dict[str, Any]:
    """The body that Feast's remote store sends."""
    body: dict[str, Any] = {
        "entities": {**question.entities, **question.request_data},
        "full_feature_names": question.full_names,
    }
    if isinstance(question.features, str):
        return body | {"feature_service": question.features}
    return body | {"features": list(question.features)}


def value(message: Any) -> Any:
    """The Python value of a Feast Value; None for an empty one."""
    field = message.WhichOneof("val")
    if field is None:
        return None
    found = getattr(message, field)
    return _plain(list(found.val) if field.endswith("_list_val") else found)


_STATUSES = dict(feature_column_pb2.FeatureStatus.items())
DOORS = {
    "native": native,
    "GrpcFeatureServer": feature_server,
    "ServingService": serving_service,
    "http": http,
    "remote": remote,
}


def _selected(store: FeatureStore, question: Question) -> Any:
    if isinstance(question.features, str):
        return store.get_feature_service(question.features)
    return list(question.features)


def _from_sdk(reply: serving_pb.GetOnlineFeaturesResponse, question: Question) -> dict[str, Column]:
    # Feast calls all join keys PRESENT here, null or not.
    for name, vector in zip(reply.metadata.feature_names.val, reply.results, strict=True):
        for i, item in enumerate(question.entities.get(name, ())):
            if item is None:
                vector.statuses[i] = serving_pb.NULL_VALUE
    return _from_message(reply, question)


def _from_message(reply: serving_pb.GetOnlineFeaturesResponse, question: Question) -> dict[str, Column]:
    answer = {}
    for name, vector in zip(reply.metadata.feature_names.val, reply.results, strict=True):
        times = [stamp.ToDatetime(UTC) for stamp in vector.event_timestamps]
        times = times or [EPOCH] * len(vector.values)
        answer[name] = Column(
            [value(item) for item in vector.values],
            [serving_pb.FieldStatus.Name(status) for status in vector.statuses],
            [None if time == EPOCH else time for time in times],
        )
    return _features_only(answer, question)


def _features_only(answer: dict[str, Column], question: Question) -> dict[str, Column]:
    """Feast puts the join keys in front; they must be those that were asked for."""
    for name, values in question.entities.items():
        echoed = answer.pop(name)
        assert echoed.values == list(values)
        assert echoed.statuses == ["NULL_VALUE" if item is None else "PRESENT" for item in values]
        assert echoed.times is None or set(echoed.times) == {None}
    return answer


def _repeated(values: Sequence[Any], *, int32: bool = False) -> RepeatedValue:
    if int32:
        found = RepeatedValue()
        for item in values:
            found.val.add(int32_val=item)
        return found
    return RepeatedValue(val=python_values_to_proto_values(list(values)))


def _plain(item: Any) -> Any:
    """Values as Feast has them: times as whole seconds since 1970."""
    if isinstance(item, datetime):
        return (item - EPOCH) // timedelta(seconds=1)
    if isinstance(item, list):
        return [_plain(part) for part in item]
    if isinstance(item, float) and math.isnan(item):
        return "NaN"
    return item


def _decoded(item: Any) -> Any:
    if isinstance(item, list):
        return [base64.b64decode(part) for part in item]
    return None if item is None else base64.b64decode(item)
