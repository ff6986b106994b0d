"""Tokens, at both doors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from plumbline.registry.client import RegistryClient
from plumbline.registry.errors import CallDenied, CallUnauthenticated
from plumbline.tokens import digest_of, new_token
from registry_service.app import build
from servicekit.server import StartupError
from tests.integration.registry_service.conftest import settings_for
from tests.integration.registry_service.mlflow.conftest import Facade, run_script, serving
from tests.support import running_server

TOKENS = {role: new_token() for role in ("read", "write", "admin")}


@pytest.fixture
def guarded(sqlite_url: str, tmp_path: Path) -> Iterator[Facade]:
    file = tmp_path / "tokens"
    file.write_text("".join(f"{role}-bot {role} {digest_of(token)}\n" for role, token in TOKENS.items()))
    with (
        serving(sqlite_url, tmp_path, tokens_file=file) as running,
        RegistryClient(running.target, actor="somebody", token=TOKENS["write"]) as client,
    ):
        yield replace(running, client=client)


def test_over_grpc(guarded: Facade, monkeypatch: pytest.MonkeyPatch) -> None:
    guarded.client.create_model("m")
    with RegistryClient(guarded.target, token="") as nobody:
        with pytest.raises(CallUnauthenticated, match="asks for a token"):
            nobody.get_model("m")
        with pytest.raises(CallUnauthenticated):
            nobody.download_file("m/1", "model.txt", guarded.folder / "x")
    monkeypatch.setenv("PLUMBLINE_TOKEN", TOKENS["read"])
    with RegistryClient(guarded.target) as reader:
        assert reader.get_model("m").name == "models/m"
        with pytest.raises(CallDenied, match="read-bot may read; CreateModel takes write"):
            reader.create_model("n")
    draft = guarded.client.create_version("m")
    # What the caller claims to be counts for nothing beside a token.
    assert draft.actor == "write-bot"


def test_over_http(guarded: Facade) -> None:
    guarded.client.create_model("m")

    def ask(method: str, route: str, token: str, body: bytes | None = None) -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return guarded.send(method, f"/api/2.0/mlflow/{route}", body, headers).status

    create = b'{"name": "m", "source": "s3://x"}'
    assert ask("GET", "registered-models/get?name=m", "") == 401
    assert ask("GET", "registered-models/get?name=m", "wrong") == 401
    assert ask("GET", "registered-models/get?name=m", TOKENS["read"]) == 200
    assert ask("POST", "registered-models/get-latest-versions", TOKENS["read"], b'{"name": "m"}') == 200
    assert ask("POST", "model-versions/create", TOKENS["read"], create) == 403
    assert ask("POST", "model-versions/create", TOKENS["write"], create) == 200
    assert ask("DELETE", "registered-models/alias", TOKENS["read"], b'{"name": "m", "alias": "a"}') == 403
    artifacts = "/api/2.0/mlflow-artifacts/artifacts?path=models/m/1"
    assert guarded.send("GET", artifacts).status == 401
    assert guarded.send("GET", "/health").status == 200
    assert guarded.client.get_version("m/1").actor == "write-bot"


def test_mlflows_client_sends_its_token(guarded: Facade, mlflow_python: Path, tmp_path: Path) -> None:
    guarded.client.create_model("flights")
    draft = guarded.client.create_version("flights")
    (tmp_path / "model.txt").write_bytes(b"booster")
    guarded.client.upload_file(draft.name, tmp_path / "model.txt")
    guarded.client.finalize_version(draft.name)
    told = run_script(
        mlflow_python, "reading.py", guarded.url, "models:/flights/1", MLFLOW_TRACKING_TOKEN=TOKENS["read"]
    )
    assert told["files"] == {"model.txt": b"booster".hex()}
    assert told["may write"] == "PERMISSION_DENIED"


async def test_a_file_of_tokens_that_is_not_there(sqlite_url: str, tmp_path: Path) -> None:
    settings = settings_for(sqlite_url, tmp_path).model_copy(update={"tokens_file": tmp_path / "none"})
    with (
        pytest.raises(StartupError, match="PLUMBLINE_REGISTRY_TOKENS_FILE"),
        running_server(settings, build),
    ):
        pass
