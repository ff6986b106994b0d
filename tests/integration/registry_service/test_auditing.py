"""`plumbline registry audit` and `plumbline registry verify`, against a real server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from typer.testing import CliRunner

from plumbline import RegistryClient
from plumbline.cli.main import app
from plumbline.registry.errors import InvalidField, InvalidFilter
from plumbline.registry.v1 import changes_pb2 as pb
from registry_service.app import build
from tests.integration.registry_service.conftest import settings_for
from tests.support import running_server

DOCS = Path(__file__).parents[3] / "docs" / "registry.md"


@pytest.fixture
def client(
    any_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RegistryClient]:
    with (
        running_server(settings_for(any_database_url, tmp_path), build) as address,
        RegistryClient(address, actor="ada") as client,
    ):
        monkeypatch.setenv("PLUMBLINE_REGISTRY_ADDRESS", address)
        (tmp_path / "model.txt").write_text("tree")
        client.create_model("flüge", description='with "quotes", \\ and \u2028')
        client.create_version("flüge")
        client.upload_file("flüge/1", tmp_path / "model.txt")
        client.finalize_version("flüge/1")
        client.set_alias("flüge@champion", "flüge/1", reason="the first")
        yield client


def run(*words: str) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["registry", *words])
    return found.exit_code, found.output


def test_what_happened_is_listed_and_filtered(client: RegistryClient) -> None:
    events = list(client.list_audit_events())
    assert [event.sequence for event in events] == list(range(len(events), 0, -1))
    assert [event.action for event in events[::-1]] == [
        "BeginAudit",
        "CreateModel",
        "CreateVersion",
        "UploadFile",
        "FinalizeVersion",
        "SetAlias",
    ]
    assert events[0].model == "models/flüge"
    assert {event.actor for event in events[:-1]} == {"ada"}
    found = list(client.list_audit_events('kind = "version" AND sequence < 5'))
    assert [event.action for event in found] == ["UploadFile", "CreateVersion"]
    with pytest.raises(InvalidFilter):
        list(client.list_audit_events("nonsense ="))
    code, output = run("audit", "--filter", 'action = "SetAlias"', "--json")
    assert code == 0
    assert [event["resource"] for event in json.loads(output)] == ["models/flüge/aliases/champion"]
    assert "FinalizeVersion" in run("audit", "--limit", "2")[1]


def test_the_chain_is_recomputed_as_the_docs_say(client: RegistryClient) -> None:
    script = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert script is not None
    _, events = run("audit", "--json")
    command = [sys.executable, "-c", script.group(1)]
    told = subprocess.run(command, input=events, capture_output=True, text=True, check=True, encoding="utf-8")
    _, verified = run("verify", "--json")
    assert told.stdout.strip() == json.loads(verified)["summary"]["head"]
    altered = events.replace('"ada"', '"eve"', 1)
    assert subprocess.run(command, input=altered, capture_output=True, text=True, check=False).returncode == 1


def test_an_intact_registry(client: RegistryClient) -> None:
    code, output = run("verify")
    assert code == 0
    assert "6 events, 3 records, 1 blobs" in output
    assert "intact" in output
    head = re.search(r"head (\S+)", output)
    assert head is not None
    client.create_model("another")
    assert run("verify", "--anchor", head.group(1))[0] == 0
    code, output = run("verify", "--anchor", f"3:{'0' * 64}", "--skip-blobs")
    assert code == 1
    assert "ANCHOR_MISSING" in output
    parts = [part.WhichOneof("part") for part in client.verify_integrity()]
    assert parts[-1] == "summary"
    assert set(parts[:-1]) == {"progress"}
    with pytest.raises(InvalidField, match="anchor"):
        list(client.verify_integrity(anchor="yesterday"))


def test_a_registry_that_is_not(client: RegistryClient, any_database_url: str, tmp_path: Path) -> None:
    [blob] = [path for path in (tmp_path / "artifacts").rglob("*") if len(path.name) == 64]
    blob.unlink()
    engine = create_engine(any_database_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        # What no trigger keeps from changing: notes.
        connection.execute(text("UPDATE version_annotation SET stage = 'Production'"))
    engine.dispose()
    code, output = run("verify")
    assert code == 1
    assert "BLOB_MISSING" in output
    assert "not intact: 2 findings" in output
    code, output = run("verify", "--skip-blobs", "--json")
    assert code == 1
    found = json.loads(output)
    assert found["summary"]["findings"] == "1"
    assert [item["kind"] for item in found["findings"]] == ["FINDING_KIND_RECORD_ALTERED"]
    assert [item["resource"] for item in found["findings"]] == ["models/flüge/versions/1"]
    findings = [part.finding for part in client.verify_integrity() if part.HasField("finding")]
    assert {item.kind for item in findings} == {pb.FINDING_KIND_RECORD_ALTERED, pb.FINDING_KIND_BLOB_MISSING}
