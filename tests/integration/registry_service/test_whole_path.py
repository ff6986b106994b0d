from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from plumbline.registry.client import RegistryClient
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.types.v1 import column_pb2 as types
from registry_service.app import build
from tests.integration.registry_service.conftest import Running, settings_for
from tests.support import running_server

DATASET = f"datasets/{'a' * 64}"
SERVICE = f"featureServices/flights/delays@sha256:{'b' * 64}"
VIEW = f"featureViews/flights/weather@sha256:{'c' * 64}"

SIGNATURE = res.ModelSignature(
    inputs=[
        res.ModelInput(
            name="wind",
            type=types.VALUE_TYPE_DOUBLE,
            source=res.INPUT_SOURCE_FEATURE,
            feature_reference="weather:wind",
        ),
        res.ModelInput(
            name="carrier",
            type=types.VALUE_TYPE_STRING,
            source=res.INPUT_SOURCE_REQUEST,
            categories=["9E", "AA"],
        ),
    ],
    outputs=[types.Field(name="late", type=types.VALUE_TYPE_DOUBLE)],
    feature_service="delays",
    feature_service_digest=f"sha256:{'b' * 64}",
    join_keys=[types.Field(name="origin", type=types.VALUE_TYPE_STRING)],
)


def test_from_nothing_to_a_champion_and_back(any_database_url: str, tmp_path: Path) -> None:
    settings = settings_for(any_database_url, tmp_path)
    source, target = tmp_path / "model.txt", tmp_path / "out" / "model.txt"
    source.write_bytes(os.urandom(3_000_001))
    with running_server(settings, build) as address, RegistryClient(address, actor="ann") as client:
        _register(client, source)
    # All of it is there after a restart.
    with running_server(settings, build) as address, RegistryClient(address, actor="bob") as client:
        resolved = client.resolve_alias("flights@champion")
        version = resolved.version
        assert (version.name, version.actor, list(version.aliases)) == (
            "models/flights/versions/1",
            "ann",
            ["champion"],
        )
        assert version.signature == SIGNATURE
        assert [evaluation.metrics["auc"] for evaluation in version.evaluations] == [0.75]
        assert version == client.get_version("flights@champion") == client.get_version("flights/1")
        meta = client.download_file(version.name, "model.txt", target)
        assert meta == version.files[0]
        assert target.read_bytes() == source.read_bytes()
        assert hashlib.sha256(target.read_bytes()).hexdigest() == meta.sha256
        graph = client.get_lineage("models/flights/aliases/champion")
        assert {edge.relation for edge in graph.edges} == {
            "points_at",
            "version_of",
            "produced_by",
            "trained_on",
            "read_from",
            "ran_code",
            "includes",
        }
        assert {VIEW, SERVICE, DATASET, version.run} <= {node.name for node in graph.nodes}
        down = client.get_lineage(VIEW, direction=pb.LINEAGE_DIRECTION_DOWNSTREAM)
        assert "models/flights/aliases/champion" in {node.name for node in down.nodes}
        (event,) = client.list_alias_history("models/flights/aliases/champion")
        assert (event.actor, event.reason, event.from_version) == ("ann", "first", "")
        as_of = event.time.ToDatetime(tzinfo=UTC)
        assert client.resolve_alias("flights@champion", as_of=as_of).alias == resolved.alias


def _register(client: RegistryClient, source: Path) -> None:
    model = client.create_model("flights", description="late?", tags={"team": "ops"})
    client.record_dataset(
        res.Dataset(
            name=DATASET,
            row_count=336_776,
            feature_service=SERVICE,
            feature_views=[VIEW],
            schema=[types.Field(name="wind", type=types.VALUE_TYPE_DOUBLE)],
        )
    )
    run = client.start_run(
        res.TrainingRun(
            display_name="nightly",
            seed=7,
            parameters={"depth": "7"},
            code=res.CodeRevision(repository="git.example/shop", commit="4f2a91c0", dirty=True),
        )
    )
    assert run.code.dirty
    client.log_run(run.name, metrics={"auc": 0.75}, datasets=[DATASET])
    run = client.finish_run(run.name)
    assert (run.state, list(run.datasets)) == (res.RUN_STATE_FINISHED, [DATASET])
    version = client.create_version(model.name, signature=SIGNATURE, run=run.name, datasets=[DATASET])
    file = client.upload_file(version.name, source)
    assert client.upload_file(version.name, source) == file
    ready = client.finalize_version(version.name)
    assert ready.state == res.VERSION_STATE_READY
    assert ready.manifest_digest.startswith("sha256:")
    client.record_evaluation(
        version.name, res.Evaluation(dataset=DATASET, split="test", metrics={"auc": 0.75})
    )
    client.set_alias("flights@champion", version.name, reason="first", must_not_exist=True)
    assert client.get_model("flights").aliases[0].version == version.name


def test_empty_files_and_folders_of_files(registry: Running, tmp_path: Path) -> None:
    client = registry.client
    client.create_model("m")
    version = client.create_version("m").name
    empty, small = tmp_path / "empty", tmp_path / "small.json"
    empty.write_bytes(b"")
    small.write_bytes(b"{}")
    client.upload_file(version, empty, path="notes/empty.txt")
    client.upload_file(version, small, path="notes/deep/info.json", media_type="application/json")
    files = {file.path: file for file in client.finalize_version(version).files}
    assert list(files) == ["notes/deep/info.json", "notes/empty.txt"]
    assert files["notes/deep/info.json"].media_type == "application/json"
    for path, expected in (("notes/empty.txt", b""), ("notes/deep/info.json", b"{}")):
        client.download_file(version, path, tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == expected


def test_lists_go_page_by_page(registry: Running) -> None:
    client = registry.client
    stub = client._stub
    for number in range(7):
        client.create_model(f"m{number}")
        client.create_version("m0")
        client.start_run(res.TrainingRun(display_name=str(number)))
        client.record_dataset(res.Dataset(name=f"datasets/{number:064x}"))
    names, token = [], ""
    while True:
        page = stub.ListModels(pb.ListModelsRequest(page_size=3, page_token=token))
        names += [model.name for model in page.models]
        token = page.next_page_token
        if not token:
            break
    assert names == [f"models/m{number}" for number in range(7)]
    assert [version.version for version in client.list_versions("m0")] == [7, 6, 5, 4, 3, 2, 1]
    first = stub.ListRuns(pb.ListRunsRequest(page_size=4))
    rest = stub.ListRuns(pb.ListRunsRequest(page_size=4, page_token=first.next_page_token))
    assert [run.display_name for run in (*first.runs, *rest.runs)] == list("6543210")
    assert rest.next_page_token == ""
    edges, request = (
        [],
        pb.GetLineageRequest(node="models/m0", direction=pb.LINEAGE_DIRECTION_DOWNSTREAM, page_size=2),
    )
    while True:
        part = stub.GetLineage(request)
        edges += [edge.downstream for edge in part.edges]
        request.page_token = part.next_page_token
        if not part.next_page_token:
            break
    assert edges == [f"models/m0/versions/{number}" for number in range(1, 8)]
    data = stub.ListDatasets(pb.ListDatasetsRequest(page_size=1))
    assert data.datasets[0].name == f"datasets/{6:064x}"
    assert client.get_run(first.runs[0].name) == first.runs[0]
    assert client.get_dataset(data.datasets[0].name) == data.datasets[0]


def test_a_repeated_request_is_answered_as_the_first_time(registry: Running) -> None:
    client = registry.client
    first = client.create_model("m", tags={"b": "2", "a": "1"}, request_id="r1")
    client.update_model(res.Model(name="models/m", description="new"), fields=["description"])
    assert client.create_model("m", tags={"a": "1", "b": "2"}, request_id="r1") == first
    run = client.start_run(res.TrainingRun(display_name="x"), request_id="r1")
    assert client.start_run(res.TrainingRun(display_name="x"), request_id="r1").name == run.name
    versions = {client.create_version("m", request_id="v").name for _ in range(3)}
    assert versions == {"models/m/versions/1"}


def test_archiving_over_the_wire(registry: Running) -> None:
    client = registry.client
    model = client.create_model("m")
    version = client.create_version("m")
    archived = client.archive_version(version.name, etag=version.etag)
    assert archived.state == res.VERSION_STATE_ARCHIVED
    gone = client.archive_model("m", etag=client.get_model("m").etag)
    assert gone.archive_time.ToDatetime(tzinfo=UTC) <= datetime.now(UTC)
    assert gone.etag != model.etag
    assert list(client.list_models()) == []
    assert [item.name for item in client.list_models(show_archived=True)] == ["models/m"]


def test_health_is_told_per_service(registry: Running) -> None:
    with grpc.insecure_channel(registry.client.target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(
            health_pb2.HealthCheckRequest(service="plumbline.registry.v1.ModelRegistryService"), timeout=5
        )
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
