"""In-process stand-ins for the servers that serving talks to, speaking the real contracts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import lightgbm
import numpy as np
import pyarrow as pa

from plumbline import columns, wire
from plumbline.errors import PlumblineError
from plumbline.features.errors import FeatureServiceNotFound
from plumbline.features.v1 import definitions_pb2 as defs
from plumbline.features.v1 import feature_retrieval_service_pb2 as features_pb
from plumbline.features.v1 import feature_retrieval_service_pb2_grpc as features_rpc
from plumbline.registry.errors import AliasNotFound
from plumbline.registry.v1 import model_registry_service_pb2 as registry_pb
from plumbline.registry.v1 import model_registry_service_pb2_grpc as registry_rpc
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.types.v1 import column_pb2 as types
from plumbline.types.v1 import feature_column_pb2

CARRIERS = ("AA", "B6", "DL", "UA")
FEATURES = ("delay", "seats", "wind")


def train(seed: int = 1, categories: Sequence[str] = CARRIERS) -> tuple[str, lightgbm.Booster]:
    """A small binary model over (delay, seats, wind, carrier, hour); its text and itself."""
    rng = np.random.default_rng(seed)
    rows = 2_000
    data = np.column_stack(
        [
            rng.normal(10, 20, rows),
            rng.integers(50, 300, rows).astype(float),
            rng.normal(8, 4, rows),
            rng.integers(0, len(categories), rows).astype(float),
            rng.integers(0, 24, rows).astype(float),
        ]
    )
    data[rng.random(data.shape) < 0.05] = np.nan
    label = (np.nan_to_num(data[:, 0]) + 5 * np.nan_to_num(data[:, 3]) + rng.normal(0, 10, rows) > 15).astype(
        int
    )
    dataset = lightgbm.Dataset(
        data, label, feature_name=[*FEATURES, "carrier", "hour"], categorical_feature=["carrier"]
    )
    params = {"objective": "binary", "verbosity": -1, "num_leaves": 15, "seed": seed, "num_threads": 1}
    booster = lightgbm.train(params, dataset, num_boost_round=20)
    return booster.model_to_string(), booster


def signature(**changes: Any) -> res.ModelSignature:
    """The signature of `train`'s models: three features, the join key carrier, the request column hour."""

    def feature(name: str, kind: types.ValueType.ValueType) -> res.ModelInput:
        return res.ModelInput(
            name=name, type=kind, source=res.INPUT_SOURCE_FEATURE, feature_reference=f"stats:{name}"
        )

    whole = res.ModelSignature(
        inputs=[
            feature("delay", types.VALUE_TYPE_DOUBLE),
            feature("seats", types.VALUE_TYPE_INT64),
            feature("wind", types.VALUE_TYPE_FLOAT),
            res.ModelInput(
                name="carrier",
                type=types.VALUE_TYPE_STRING,
                source=res.INPUT_SOURCE_REQUEST,
                categories=CARRIERS,
            ),
            res.ModelInput(name="hour", type=types.VALUE_TYPE_INT64, source=res.INPUT_SOURCE_REQUEST),
        ],
        outputs=[types.Field(name="probability", type=types.VALUE_TYPE_DOUBLE)],
        feature_service="flights_v1",
        feature_service_digest="sha256:" + "0" * 64,
        join_keys=[
            types.Field(name="origin", type=types.VALUE_TYPE_STRING),
            types.Field(name="carrier", type=types.VALUE_TYPE_STRING),
        ],
        request_data=[types.Field(name="sched", type=types.VALUE_TYPE_TIMESTAMP)],
    )
    for name, value in changes.items():
        setattr(whole, name, value)
    return whole


def feature_service() -> defs.FeatureService:
    """What `signature` was trained on."""
    fields = [
        types.Field(name="delay", type=types.VALUE_TYPE_DOUBLE),
        types.Field(name="seats", type=types.VALUE_TYPE_INT64),
        types.Field(name="wind", type=types.VALUE_TYPE_FLOAT),
    ]
    return defs.FeatureService(
        project="test",
        name="flights_v1",
        projections=[defs.FeatureProjection(view="stats", features=fields)],
        join_keys=signature().join_keys,
        request_data=signature().request_data,
        digest="sha256:" + "0" * 64,
    )


@dataclass
class Version:
    """A version in the fake registry. served: the bytes it hands out, when not those recorded."""

    message: res.ModelVersion
    blob: bytes
    served: bytes | None = None


@dataclass
class FakeRegistry(registry_rpc.ModelRegistryServiceServicer):
    """Aliases and READY versions in memory."""

    versions: dict[str, Version] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    downloads: list[str] = field(default_factory=list)
    error: PlumblineError | None = None
    download_error: PlumblineError | None = None
    resolved: int = 0

    def add(
        self,
        text: str,
        sig: res.ModelSignature | None = None,
        *,
        model: str = "delay",
        path: str = "model.txt",
    ) -> str:
        """A READY version holding a model's text; returns its name."""
        number = 1 + sum(name.startswith(f"models/{model}/") for name in self.versions)
        name, blob = f"models/{model}/versions/{number}", text.encode()
        file = res.ModelFile(path=path, sha256=hashlib.sha256(blob).hexdigest(), size_bytes=len(blob))
        message = res.ModelVersion(
            name=name,
            version=number,
            state=res.VERSION_STATE_READY,
            signature=signature() if sig is None else sig,
            files=[file],
        )
        self.versions[name] = Version(message, blob)
        return name

    def point(self, alias: str, version: str) -> None:
        """Moves models/delay/aliases/{alias}."""
        self.aliases[f"models/delay/aliases/{alias}"] = version

    def ResolveAlias(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.resolved += 1
        if self.error is not None:
            abort(context, self.error)
        if request.name not in self.aliases:
            abort(context, AliasNotFound(f"{request.name} does not exist", metadata={"alias": request.name}))
        version = self.aliases[request.name]
        return registry_pb.ResolveAliasResponse(
            alias=res.Alias(name=request.name, version=version), version=self.versions[version].message
        )

    def GetVersion(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self.versions[request.name].message

    def DownloadFile(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.downloads.append(request.version)
        if self.download_error is not None:
            abort(context, self.download_error)
        version = self.versions[request.version]
        blob = version.blob if version.served is None else version.served
        meta = res.ModelFile()
        meta.CopyFrom(version.message.files[0])
        meta.sha256 = hashlib.sha256(blob).hexdigest()
        yield registry_pb.DownloadFileResponse(header=meta)
        for start in range(0, len(blob), 4096):
            yield registry_pb.DownloadFileResponse(chunk=blob[start : start + 4096])


@dataclass
class FakeFeatures(features_rpc.FeatureRetrievalServiceServicer):
    """One feature service; rows by (origin, carrier), each three values or None where null."""

    definition: defs.FeatureService = field(default_factory=feature_service)
    rows: dict[tuple[str, str], tuple[float | None, int | None, float | None]] = field(default_factory=dict)
    error: PlumblineError | None = None
    describe_error: PlumblineError | None = None
    delay: Any = None
    requests: list[Any] = field(default_factory=list)
    remaining: list[float] = field(default_factory=list)
    traceparents: list[str] = field(default_factory=list)

    def GetFeatureService(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self.describe_error is not None:
            abort(context, self.describe_error)
        if request.name != self.definition.name:
            abort(context, FeatureServiceNotFound(f"there is no feature service {request.name!r}"))
        return self.definition

    def GetOnlineFeatures(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.requests.append(request)
        self.remaining.append(context.time_remaining())
        self.traceparents.extend(v for k, v in context.invocation_metadata() if k == "traceparent")
        if self.delay is not None:
            self.delay.wait(10)
        if self.error is not None:
            abort(context, self.error)
        keys = columns.decode_table(request.entities).to_pylist()
        found = [self.rows.get((key["origin"], key["carrier"])) for key in keys]
        kinds = {"delay": pa.float64(), "seats": pa.int64(), "wind": pa.float32()}
        reply = features_pb.GetOnlineFeaturesResponse(
            definition_digest=self.definition.digest, row_count=len(keys)
        )
        for position, field_ in enumerate(self.definition.projections[0].features):
            cells = [None if row is None else row[position] for row in found]
            codes = [3 if row is None else 2 if row[position] is None else 1 for row in found]
            reply.features.append(
                feature_column_pb2.FeatureColumn(
                    column=columns.encode(field_.name, pa.array(cells, kinds[field_.name])),
                    statuses=[] if set(codes) == {1} else codes,
                    view="stats",
                )
            )
        none = np.iinfo(np.int64).min
        times = feature_column_pb2.ViewEventTimes(
            view="stats", event_micros=[none if row is None else 1_383_264_000_000_000 for row in found]
        )
        reply.view_event_times.append(times)
        return reply


@contextmanager
def listening(servicer: Any, port: int = 0) -> Iterator[str]:
    """Serves a fake; yields "127.0.0.1:port"."""
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    if isinstance(servicer, FakeRegistry):
        registry_rpc.add_ModelRegistryServiceServicer_to_server(servicer, server)
    else:
        features_rpc.add_FeatureRetrievalServiceServicer_to_server(servicer, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        server.stop(0).wait(5)


def abort(context: Any, error: PlumblineError) -> None:
    """Answers with an error as the real servers do."""
    context.set_trailing_metadata(wire.trailers(error))
    context.abort(wire.status_code(error), error.message)
