"""`plumbline runs …` and short names, against a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plumbline import RegistryClient
from plumbline.cli.main import app
from plumbline.registry.errors import VersionInUse
from plumbline.registry.v1 import resources_pb2 as res
from registry_service.app import build
from tests.integration.registry_service.conftest import settings_for
from tests.support import running_server


@pytest.fixture
def client(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryClient]:
    with (
        running_server(settings_for(sqlite_url, tmp_path), build) as address,
        RegistryClient(address, actor="ada") as client,
    ):
        monkeypatch.setenv("PLUMBLINE_REGISTRY_ADDRESS", address)
        yield client


def test_a_run_whose_process_is_gone_can_be_seen_and_closed(client: RegistryClient) -> None:
    run = client.start_run(res.TrainingRun(display_name="train m", parameters={"rounds": "7"}))
    assert [item.name for item in client.list_runs()] == [run.name]
    cli = CliRunner()
    listed = cli.invoke(app, ["runs", "list"])
    assert run.name in listed.output
    assert "RUNNING" in listed.output
    shown = cli.invoke(app, ["runs", "show", run.name])
    assert "rounds" in shown.output
    for nothing in ("", " "):
        assert cli.invoke(app, ["runs", "fail", run.name, "--reason", nothing]).exit_code == 2
    assert client.get_run(run.name).state == res.RUN_STATE_RUNNING
    closed = cli.invoke(app, ["runs", "fail", run.name, "--reason", "the machine was taken away", "--json"])
    assert json.loads(closed.output)["state"] == "RUN_STATE_FAILED"
    assert client.get_run(run.name).error == "the machine was taken away"
    again = cli.invoke(app, ["runs", "fail", run.name, "--reason", "twice"])
    assert again.exit_code == 1


def test_the_client_lists_datasets(client: RegistryClient) -> None:
    names = {f"datasets/{digit * 64}" for digit in "12"}
    for name in names:
        client.record_dataset(res.Dataset(name=name, row_count=1))
    assert {dataset.name for dataset in client.list_datasets()} == names


def test_short_names_are_good_for_every_method(client: RegistryClient, tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("tree")
    dataset = client.record_dataset(res.Dataset(name=f"datasets/{'1' * 64}", row_count=1))
    client.create_model("m")
    client.create_version("m")
    assert client.upload_file("m/1", tmp_path / "model.txt").path == "model.txt"
    assert client.finalize_version("m/1").state == res.VERSION_STATE_READY
    client.set_alias("m@champion", "m/1", reason="the first")
    assert [event.reason for event in client.list_alias_history("m@champion")] == ["the first"]
    assert [event.reason for event in client.list_alias_history("m")] == ["the first"]
    client.download_file("m/1", "model.txt", tmp_path / "back.txt")
    assert (tmp_path / "back.txt").read_text() == "tree"
    evaluation = res.Evaluation(dataset=dataset.name, split="test", metrics={"auc": 0.7})
    assert client.record_evaluation("m/1", evaluation).metrics["auc"] == 0.7
    with pytest.raises(VersionInUse, match="models/m/aliases/champion points at models/m/versions/1"):
        client.archive_version("m/1")
    client.clear_alias("m@champion", reason="done")
    assert client.archive_version("m/1").state == res.VERSION_STATE_ARCHIVED
