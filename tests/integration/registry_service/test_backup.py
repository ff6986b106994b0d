"""Backup and restore as an operator does it: programs beside a server that serves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plumbline.cli.main import app
from plumbline.registry.client import RegistryClient
from plumbline.registry.v1 import webhooks_pb2
from registry_service.app import build
from tests.integration.registry_service.conftest import settings_for
from tests.support import running_server

ROOT = Path(__file__).resolve().parents[3]


def run(url: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The program, with the settings of the registry of that database and folder."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PLUMBLINE_")}
    environment |= {
        "PLUMBLINE_REGISTRY_DATABASE_URL": url,
        "PLUMBLINE_REGISTRY_ARTIFACTS_DIR": str(folder / "artifacts"),
    }
    command = [sys.executable, "-m", "registry_service", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_saved_while_serving_and_served_again(any_database_url: str, tmp_path: Path) -> None:
    backup, source = tmp_path / "backup", tmp_path / "model.txt"
    stop = threading.Event()

    def write(target: str) -> None:
        with RegistryClient(target, actor="writer") as client:
            number = 0
            while not stop.is_set():
                client.create_model(f"busy{number}")
                number += 1

    with (
        running_server(settings_for(any_database_url, tmp_path), build) as target,
        RegistryClient(target, actor="ann") as client,
    ):
        client.create_model("flights")
        client.create_version("flights")
        source.write_text("tree\n" * 100_000)
        client.upload_file("flights/1", source)
        client.finalize_version("flights/1")
        client.set_alias("flights@champion", "flights/1", reason="the first")
        client.create_webhook(
            webhooks_pb2.Webhook(url="https://hooks.example/", secret="a secret of this test")
        )
        writer = threading.Thread(target=write, args=(target,))
        writer.start()
        try:
            made = run(any_database_url, tmp_path, "backup", "--to", str(backup))
        finally:
            stop.set()
            writer.join(30)
    assert made.returncode == 0, made.stderr
    head = made.stdout.split("head ")[1].strip()
    assert json.loads((backup / "manifest.json").read_text())["head"] == head
    assert oct(backup.stat().st_mode & 0o777) == "0o700"
    new = tmp_path / "new"
    url = f"sqlite:///{new / 'registry.db'}"
    checked = run(url, new, "restore", "--from", str(backup), "--check")
    assert checked.returncode == 0, checked.stderr
    assert not new.exists()
    restored = run(url, new, "restore", "--from", str(backup), "--expect-head", head)
    assert restored.returncode == 0, restored.stderr
    assert head in restored.stdout
    with running_server(settings_for(url, new), build) as target, RegistryClient(target) as client:
        found = client.resolve_alias("flights@champion")
        assert found.version.name == "models/flights/versions/1"
        client.download_file("flights/1", "model.txt", tmp_path / "back.txt")
        assert (tmp_path / "back.txt").read_bytes() == source.read_bytes()
        assert client.create_version("flights").version == 2
        (webhook,) = client.list_webhooks()
        assert "secret" in webhook.last_error
    again = run(url, new, "restore", "--from", str(backup))
    assert again.returncode == 1
    assert "not empty" in again.stderr


def test_what_goes_wrong_is_said_in_a_line(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    nothing = run(url, tmp_path, "backup", "--to", str(tmp_path / "backup"))
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "there is no database" in nothing.stderr
    assert not (tmp_path / "registry.db").exists()
    missing = run(url, tmp_path, "restore", "--from", str(tmp_path / "backup"))
    assert missing.returncode == 1
    assert "is no backup" in missing.stderr
    unreachable = "postgresql://nobody@127.0.0.1:1/none"
    down = run(unreachable, tmp_path, "backup", "--to", str(tmp_path / "backup"))
    assert down.returncode == 1
    assert "Traceback" not in down.stderr
    down = run(unreachable, tmp_path, "restore", "--from", str(tmp_path / "backup"))
    assert down.returncode in (1, 2)
    assert "Traceback" not in down.stderr
    assert not (tmp_path / "backup").exists()


def test_by_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    monkeypatch.setenv("PLUMBLINE_REGISTRY_DATABASE_URL", url)
    monkeypatch.setenv("PLUMBLINE_REGISTRY_ARTIFACTS_DIR", str(tmp_path / "artifacts"))
    monkeypatch.chdir(tmp_path)
    with running_server(settings_for(url, tmp_path), build) as target, RegistryClient(target) as client:
        client.create_model("flights")
    cli = CliRunner()
    assert cli.invoke(app, ["registry", "backup", "--to", "backup"]).exit_code == 0
    assert cli.invoke(app, ["registry", "restore", "--from", "backup", "--check"]).exit_code == 0
    assert cli.invoke(app, ["registry", "restore", "--from", "backup"]).exit_code == 1
    assert cli.invoke(app, ["registry", "backup"]).exit_code == 2
    said = capfd.readouterr()
    assert "not empty" in said.err
    assert "intact, 2 events" in said.out
