"""Filters, orders and pages from the command line and over gRPC."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plumbline.cli.main import app
from plumbline.registry.client import RegistryClient
from plumbline.registry.errors import InvalidFilter, InvalidPageToken, ModelNotFound
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from registry_service.app import build
from tests.integration.registry_service.conftest import settings_for
from tests.support import running_server

DOCUMENT = Path(__file__).parents[3] / "docs" / "search.md"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryClient]:
    folder = tmp_path_factory.mktemp("search")
    with (
        running_server(settings_for(f"sqlite:///{folder / 'registry.db'}", folder), build) as address,
        RegistryClient(address, actor="ada") as client,
    ):
        _fill(client, folder)
        yield client


def _fill(client: RegistryClient, folder: Path) -> None:
    file = folder / "model.txt"
    file.write_text("tree")
    data = client.record_dataset(res.Dataset(name=f"datasets/{'1' * 64}", row_count=2000)).name
    client.start_run(res.TrainingRun(display_name="nightly", parameters={"depth": "6"}))
    for model, team in (("fraud-eu", "risk"), ("fraud-us", "ops"), ("flight_delay", "risk")):
        client.create_model(model, tags={"team": team})
        for auc in (0.7, 0.8, None):
            version = client.create_version(model, tags={"mlflow.user": "ann"}).name
            client.upload_file(version, file)
            client.finalize_version(version)
            if auc is not None:
                bonus = {"flight_delay": 0.1}.get(model, 0.0)
                client.record_evaluation(
                    version, res.Evaluation(dataset=data, split="test", metrics={"auc": auc + bonus})
                )
        client.set_alias(f"{model}@champion", f"{model}/2", reason="best")
    client.record_deployment("fraud-eu/2", "production", target="host")


def _names(versions: Iterator[res.ModelVersion]) -> list[str]:
    return [version.name.removeprefix("models/").replace("/versions/", "/") for version in versions]


def test_models_by_filter_and_order(client: RegistryClient) -> None:
    found = client.list_models(condition='name = "fraud-*" AND tags.team = risk')
    assert [model.name for model in found] == ["models/fraud-eu"]
    newest = client.list_models(condition="aliases:champion", order_by="create_time desc")
    assert [model.name for model in newest] == ["models/flight_delay", "models/fraud-us", "models/fraud-eu"]


def test_versions_of_one_model_and_of_all(client: RegistryClient) -> None:
    assert _names(client.list_versions("fraud-eu", condition="metrics.auc >= 0.75")) == ["fraud-eu/2"]
    assert _names(client.list_versions("-", condition="NOT metrics.auc:* AND model = fraud-*")) == [
        "fraud-us/3",
        "fraud-eu/3",
    ]
    best = client.list_versions(
        "-", condition="tags.mlflow.user = ann", order_by="metrics.auc desc", page_size=2
    )
    assert _names(islice(best, 1)) == ["flight_delay/2"]
    with pytest.raises(ModelNotFound):
        list(client.list_versions("nope", condition="version = 1"))


def test_pages_in_every_order_are_the_list(client: RegistryClient) -> None:
    orders = (
        "",
        "version",
        "model desc",
        "metrics.auc",
        "metrics.auc desc",
        "finalize_time desc",
        "update_time",
    )
    for order in orders:
        whole = _names(client.list_versions("-", order_by=order))
        assert len(whole) == 9
        for size in (1, 2, 4):
            assert _names(client.list_versions("-", order_by=order, page_size=size)) == whole


def test_a_token_belongs_to_its_filter_and_order(client: RegistryClient) -> None:
    request = pb.ListVersionsRequest(parent="models/-", page_size=2, order_by="version")
    first = client._call(client._stub.ListVersions, request)
    assert first.next_page_token
    for change in ({"filter": "state = READY"}, {"order_by": "version desc"}, {"parent": "models/fraud-eu"}):
        asked = {"parent": "models/-", "order_by": "version", "page_token": first.next_page_token} | change
        with pytest.raises(InvalidPageToken):
            client._call(client._stub.ListVersions, pb.ListVersionsRequest(**asked))  # type: ignore[arg-type]


def test_an_error_says_where_and_what_is_allowed(client: RegistryClient) -> None:
    with pytest.raises(InvalidFilter, match=r"position 19: .*'flavour'.*tags\.KEY") as caught:
        list(client.list_versions("-", condition="version > 1 AND -(flavour = sweet)"))
    assert caught.value.metadata["position"] == "19"
    with pytest.raises(InvalidFilter, match=r"order_by, position 1: .*latest_version"):
        list(client.list_models(order_by="color"))


def _examples() -> list[str]:
    text = DOCUMENT.read_text(encoding="utf-8")
    block = re.search(r"```sh\n(.*?)```", text, re.DOTALL)
    assert block is not None
    return block.group(1).strip().splitlines()


@pytest.mark.parametrize("line", _examples())
def test_the_documented_commands_run(
    client: RegistryClient, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setenv("PLUMBLINE_REGISTRY_ADDRESS", client.target)
    result = CliRunner().invoke(app, [*shlex.split(line)[1:], "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    expected = {"models list": 1, "models search": None, "registry audit": 0, "runs list": 0}
    count = expected.get(" ".join(line.split()[1:3]))
    assert count is None or len(found) == count


def test_the_command_line_shows_what_was_found_or_what_was_wrong(
    client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLUMBLINE_REGISTRY_ADDRESS", client.target)
    cli = CliRunner()
    found = cli.invoke(app, ["models", "search", "metrics.auc >= 0.75", "--order-by", "metrics.auc desc"])
    shown = [line.split()[0] for line in found.output.splitlines()[1:]]
    assert shown[0] == "flight_delay/2"
    wrong = cli.invoke(app, ["models", "search", "metrics.auc >> 1"])
    assert wrong.exit_code != 0
