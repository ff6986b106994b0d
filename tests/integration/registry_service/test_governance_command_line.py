"""`plumbline alias …`, `plumbline models approve …`, `plumbline deployments …`, against a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from plumbline import RegistryClient
from plumbline.cli.main import app
from plumbline.registry.v1 import resources_pb2 as res
from registry_service.app import build
from tests.integration.registry_service.conftest import settings_for
from tests.support import running_server

POLICY = """
description: What a champion has shown.
metrics:
  - {metric: auc, split: test, min: 0.7}
approvals: {count: 1}
max_data_age: 30d
"""
DATASET = f"datasets/{'1' * 64}"


@pytest.fixture
def client(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryClient]:
    (tmp_path / "model.txt").write_text("tree")
    with (
        running_server(settings_for(sqlite_url, tmp_path), build) as address,
        RegistryClient(address, actor="ada") as client,
    ):
        monkeypatch.setenv("PLUMBLINE_REGISTRY_ADDRESS", address)
        monkeypatch.setenv("PLUMBLINE_ACTOR", "bob")
        client.create_model("m")
        client.record_dataset(res.Dataset(name=DATASET, row_count=1))
        for _ in range(2):
            version = client.create_version("m").name
            client.upload_file(version, tmp_path / "model.txt")
            client.finalize_version(version)
        yield client


def run(*words: str, code: int = 0, text: str | None = None) -> Result:
    result = CliRunner().invoke(app, list(words), input=text)
    assert result.exit_code == code, result.output
    return result


def test_an_alias_goes_back_is_cleared_and_is_asked_about(client: RegistryClient) -> None:
    for version in "12":
        run("alias", "set", "m@champion", version, "--reason", "newer")
    tag = client.resolve_alias("m@champion").alias.etag
    run("alias", "rollback", "m@champion", "--reason", "worse", "--etag", "0" * 16, code=1)
    back = run("alias", "rollback", "m@champion", "--reason", "worse", "--etag", tag)
    assert "models/m/aliases/champion → models/m/versions/1" in back.output
    assert "NO_PREVIOUS_HOLDER" in run("alias", "rollback", "m@champion", "--reason", "?", code=1).stderr
    assert "rollback: worse" in run("alias", "history", "m@champion").output
    moment = client.resolve_alias("m@champion").alias.update_time.ToJsonString()
    shown = run("alias", "resolve", "m@champion").output
    assert "models/m/versions/1" in shown
    assert "by bob" in shown
    run("alias", "clear", "m@champion", "--reason", "done")
    assert "ALIAS_NOT_FOUND" in run("alias", "resolve", "m@champion", code=1).stderr
    then = run("alias", "resolve", "m@champion", "--as-of", moment, "--json")
    assert json.loads(then.output)["alias"]["version"] == "models/m/versions/1"
    run("alias", "resolve", "m@champion", "--as-of", "yesterday", code=2)


def test_a_policy_from_a_file(client: RegistryClient, tmp_path: Path) -> None:
    file = tmp_path / "champion.yaml"
    file.write_text(POLICY)
    run("alias", "policy", "set", "m@champion", str(file), "--reason", "as agreed")
    shown = run("alias", "policy", "show", "m@champion").output
    assert "# models/m/aliases/champion, set " in shown
    assert run("alias", "policy", "show", "m").output == shown
    # What is shown can be set.
    run("alias", "policy", "set", "m@champion", "-", "--reason", "again", text=shown)
    rules = json.loads(run("alias", "policy", "show", "m@champion", "--json").output)
    assert (rules["metrics"], rules["max_data_age"]) == (
        [{"metric": "auc", "split": "test", "min": 0.7}],
        "2592000s",
    )
    failed = run("alias", "policy", "check", "m@champion", "1", code=1).output
    assert "no evaluation with auc" in failed
    refused = run("alias", "set", "m@champion", "1", "--reason", "now", code=1)
    assert "max_data_age" in refused.stderr
    assert "POLICY_NOT_MET" in refused.stderr
    assert (
        "metrics[0]: expected auc >= 0.7, split test; found no evaluation" in refused.stderr.splitlines()[0]
    )

    file.write_text("approvals: {count: 1}")
    run("alias", "policy", "set", "m@champion", str(file), "--reason", "less")
    run("models", "approve", "m/1", "--for", "champion", "--comment", "fine")
    assert "passed" in run("alias", "policy", "check", "m@champion", "m/1").output
    run("models", "reject", "m/1", "--comment", "wait")
    assert (
        "rejected by bob: wait"
        in run("alias", "policy", "check", "models/m/aliases/champion", "1", code=1).output
    )
    run("models", "withdraw", "m/1")
    run("models", "approve", "m/1")
    listed = run("models", "approvals", "m/1").output
    assert listed.count("APPROVED") == 2
    run("alias", "set", "m@champion", "1", "--reason", "approved")
    assert "by a promotion policy" in run("alias", "resolve", "m@champion").output
    run("alias", "policy", "clear", "m@champion", "--reason", "no more")
    assert "any READY version" in run("alias", "policy", "check", "m@champion", "2").output
    assert "POLICY_NOT_FOUND" in run("alias", "policy", "show", "m@champion", code=1).stderr
    file.write_text("approval: {count: 1}")
    wrong = run("alias", "policy", "set", "m@champion", str(file), "--reason", "typo", code=2)
    assert "approval" in wrong.stderr
    assert client.list_promotion_policies("m") == []


def test_models_are_renamed_archived_and_restored(client: RegistryClient) -> None:
    assert "models/m is now models/n" in run("models", "rename", "m", "n").output
    assert "models/n/versions/2 is archived" in run("models", "archive", "n/2").output
    assert client.get_version("n/2").state == res.VERSION_STATE_ARCHIVED
    run("models", "archive", "n")
    assert client.get_model("n").HasField("archive_time")
    assert "models/n is back" in run("models", "restore", "n").output
    assert not client.get_model("n").HasField("archive_time")


def test_deployments_are_listed_shown_and_ended(client: RegistryClient) -> None:
    one = client.record_deployment("m/1", "production", target="host-1", attributes={"zone": "a"})
    two = client.record_deployment("m/2", "staging")
    assert "zone         a" in run("deployments", "show", one.name).output
    assert "ended" in run("deployments", "end", one.name, "--reason", "machine gone").output
    assert "DEPLOYMENT_ENDED" in run("deployments", "end", one.name, "--reason", "?", code=1).stderr
    running = run("deployments", "list").output
    assert two.name in running
    assert one.name not in running
    everything = json.loads(run("deployments", "list", "--all", "--json").output)
    assert [item["name"] for item in everything] == [two.name, one.name]
    assert "machine gone" in run("deployments", "list", "--all").output
    assert len(json.loads(run("deployments", "list", "--all", "--limit", "1", "--json").output)) == 1
