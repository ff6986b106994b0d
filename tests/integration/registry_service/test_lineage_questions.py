"""Impact, comparison and export over gRPC, and the commands that ask for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plumbline import RegistryClient
from plumbline.cli.main import app
from plumbline.registry.errors import InvalidField, InvalidName, InvalidPageToken, NodeNotFound
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceStub
from plumbline.types.v1 import column_pb2 as types
from registry_service.app import build
from tests.integration.registry_service.conftest import settings_for
from tests.support import running_server

VIEW = f"featureViews/shop/weather@sha256:{'c' * 64}"
SERVICE = f"featureServices/shop/delays@sha256:{'b' * 64}"
DATASET = f"datasets/{'a' * 64}"


@pytest.fixture
def client(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryClient]:
    with (
        running_server(settings_for(sqlite_url, tmp_path), build) as address,
        RegistryClient(address, actor="ada") as client,
    ):
        monkeypatch.setenv("PLUMBLINE_REGISTRY_ADDRESS", address)
        monkeypatch.setenv("COLUMNS", "400")
        yield client


@pytest.fixture
def versions(client: RegistryClient, tmp_path: Path) -> list[res.ModelVersion]:
    """flights/1 (the champion) and flights/2, on the same rows, by other parameters."""
    client.record_dataset(
        res.Dataset(
            name=DATASET,
            display_name="train",
            row_count=10,
            schema=[types.Field(name="wind", type=types.VALUE_TYPE_DOUBLE)],
            feature_service=SERVICE,
            feature_views=[VIEW],
            recipe='{"split":{"at":"2024-01-07"}}',
            feature_definitions=[res.FeatureDefinition(name=VIEW, spec='{"ttl":"86400s"}')],
        )
    )
    client.create_model("flights")
    made = []
    for rate in ("0.1", "0.05"):
        run = client.start_run(
            res.TrainingRun(
                display_name="train flights",
                parameters={"training.learning_rate": rate},
                datasets=[DATASET],
                code=res.CodeRevision(repository="https://git.example/shop", commit="4f2a91c0ffee"),
                environment=res.Environment(
                    python_version="3.11.7", platform="Linux-6", packages=["numpy==2.1.0", "lightgbm==4.6.0"]
                ),
                config=f"learning_rate: {rate}\n",
            )
        )
        version = client.create_version("flights", run=run.name, datasets=[DATASET])
        (tmp_path / "model.txt").write_text(f"tree {rate}")
        client.upload_file(version.name, tmp_path / "model.txt")
        made.append(client.finalize_version(version.name))
        client.finish_run(run.name)
    client.set_alias("flights@champion", "flights/1", reason="the first")
    return made


def _plumbline(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def _json(*arguments: str) -> object:
    done = _plumbline(*arguments)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_impact_in_one_call_and_page_by_page(
    client: RegistryClient, versions: list[res.ModelVersion]
) -> None:
    found = list(client.find_impact("featureViews/shop/weather"))
    assert [item.version for item in found] == [versions[1].name, versions[0].name]
    assert list(found[0].path) == [VIEW, SERVICE, DATASET, versions[1].name]
    assert list(found[1].aliases) == ["champion"]
    assert [item.version for item in client.find_impact("codeRevisions/4f2a91c", live_only=True)] == [
        versions[0].name
    ]
    assert list(client.find_impact("flights@champion")) == list(client.find_impact("flights/1"))

    stub: ModelRegistryServiceStub = client._stub
    request = pb.FindImpactRequest(node=DATASET, page_size=1)
    first = stub.FindImpact(request)
    request.page_token = first.next_page_token
    second = stub.FindImpact(request)
    assert [item.version for item in (*first.versions, *second.versions)] == [
        versions[1].name,
        versions[0].name,
    ]
    assert second.next_page_token == ""
    request.live_only = True
    with pytest.raises(InvalidPageToken):
        client._call(stub.FindImpact, request)


def test_questions_that_cannot_be_answered(client: RegistryClient) -> None:
    with pytest.raises(NodeNotFound):
        list(client.find_impact("featureViews/shop/nope"))
    with pytest.raises(InvalidName, match="node is 'weather:wind'"):
        list(client._pages(client._stub.FindImpact, pb.FindImpactRequest(node="weather:wind")))
    with pytest.raises(InvalidName):
        client.compare_versions("flights", "flights/1")
    with pytest.raises(InvalidField, match="say OPENLINEAGE, DOT or JSON"):
        list(client.export_lineage("flights", pb.LINEAGE_FORMAT_UNSPECIFIED))
    with pytest.raises(NodeNotFound):
        list(client.export_lineage("flights/1", pb.LINEAGE_FORMAT_DOT))


def test_what_differs(client: RegistryClient, versions: list[res.ModelVersion]) -> None:
    found = client.compare_versions("flights@champion", "flights/2")
    assert (found.left, found.right) == (versions[0].name, versions[1].name)
    assert {(item.section, item.key) for item in found.differences} == {
        ("parameters", "training.learning_rate"),
        ("config", "sha256"),
        ("files", "model.txt"),
    }
    assert found.differences[0].kind == pb.DIFFERENCE_KIND_CHANGED
    assert (found.differences[0].left, found.differences[0].right) == ("0.1", "0.05")
    assert list(found.equal_sections) == ["data", "features", "environment", "code", "seed"]


def test_what_the_commands_print(client: RegistryClient, versions: list[res.ModelVersion]) -> None:
    shown = _plumbline("models", "diff", "flights/1", "flights/2")
    assert shown.exit_code == 0, shown.output
    assert "training.learning_rate" in shown.stdout
    assert "equal: data, features, environment, code, seed" in shown.stdout
    assert _json("models", "diff", "flights/1", "flights/2", "--json")["left"] == versions[0].name  # type: ignore[index]

    shown = _plumbline("impact", "featureViews/shop/weather")
    assert "flights/versions/1" in shown.stdout
    assert "champion" in shown.stdout
    assert "2 versions reached" in shown.stdout
    assert "1 version reached" in _plumbline("impact", "featureViews/shop/weather", "--live").stdout
    impact = _json("impact", DATASET, "--json")
    assert [item["version"] for item in impact] == [versions[1].name, versions[0].name]  # type: ignore[attr-defined]
    refused = _plumbline("impact", "featureViews/shop/nope")
    assert refused.exit_code == 1
    assert "NODE_NOT_FOUND" in refused.stderr


def test_lineage_in_every_format(client: RegistryClient, versions: list[res.ModelVersion]) -> None:
    tree = _plumbline("lineage", "flights@champion").stdout
    assert "feature view shop/weather" in tree
    down = _plumbline("lineage", VIEW, "--down", "--format", "tree").stdout
    assert "alias flights@champion" in down
    document = _json("lineage", "flights@champion", "--format", "json")
    assert document["graph"]["start"] == "models/flights/aliases/champion"  # type: ignore[index]
    dot = _plumbline("lineage", "flights@champion", "--format", "dot").stdout
    assert dot.startswith("digraph lineage {")
    lines = _plumbline("lineage", "flights@champion", "--format", "openlineage").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["eventType"] for event in events if "run" in event] == ["START", "COMPLETE"]
    assert _plumbline("lineage", "flights@nope", "--format", "dot").exit_code == 1
    assert _plumbline("lineage", "flights@champion", "--format", "xml").exit_code == 2


def test_records_of_a_run_and_a_dataset(client: RegistryClient, versions: list[res.ModelVersion]) -> None:
    run = versions[0].run
    assert _plumbline("runs", "show", run, "--config").stdout == "learning_rate: 0.1\n"
    environment = _plumbline("runs", "show", run, "--environment").stdout
    assert environment == f"# {run}: Python 3.11.7 on Linux-6\nlightgbm==4.6.0\nnumpy==2.1.0\n"
    bare = client.start_run(res.TrainingRun())
    assert "recorded no packages" in _plumbline("runs", "show", bare.name, "--environment").stdout
    assert "Python 3.11.7" not in _plumbline("runs", "show", bare.name).stdout

    assert "train" in _plumbline("datasets", "list").stdout
    for name in (DATASET, "a" * 64, "a" * 8):
        shown = _plumbline("datasets", "show", name).stdout
        assert DATASET in shown
        assert '"ttl": "86400s"' in shown
    recipe = _json("datasets", "show", DATASET, "--recipe")
    assert recipe == {"split": {"at": "2024-01-07"}}
    assert _json("datasets", "show", DATASET, "--json")["row_count"] == "10"  # type: ignore[index]
    client.record_dataset(res.Dataset(name=f"datasets/{'a' * 63}b", row_count=1))
    assert _plumbline("datasets", "show", "a" * 8).exit_code != 0
    assert _plumbline("datasets", "show", "f" * 8).exit_code != 0
