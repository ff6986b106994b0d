"""What the service checks before it listens."""

from __future__ import annotations

from pathlib import Path

import pytest

from feature_service.app import build
from feature_service.feast_adapters.apply import apply
from servicekit.server import StartupError
from tests.integration.feature_service.conftest import Running, settings_for
from tests.integration.feature_service.repo import write_repo
from tests.support import running_server


def test_the_folder_for_temporary_files_is_made(server: Running, tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    with running_server(settings_for(server.repo, temp_dir=folder), build):
        assert folder.is_dir()


def test_a_variable_that_is_not_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Feast would make a folder called ${TINY_STATE}."""
    repo = write_repo(tmp_path)
    yaml = repo / "feature_store.yaml"
    named = yaml.read_text().replace(
        "path: data/registry.db", "path: ${TINY_STATE}/registry.db  # not ${THIS}"
    )
    yaml.write_text(named)
    monkeypatch.delenv("TINY_STATE", raising=False)
    before = set(tmp_path.rglob("*"))
    with (
        pytest.raises(StartupError, match="needs TINY_STATE; set"),
        running_server(settings_for(repo), build),
    ):
        pass
    with pytest.raises(StartupError, match="needs TINY_STATE; set"):
        apply(repo)
    assert set(tmp_path.rglob("*")) == before
    monkeypatch.setenv("TINY_STATE", str(tmp_path / "state"))
    assert apply(repo)


def test_spark_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    """tests/spark, which has the extra, goes on from there."""
    repo = write_repo(tmp_path, offline="  type: spark")
    with (
        pytest.raises(StartupError, match=r"install the extra: pip install 'plumbline\[spark\]'"),
        running_server(settings_for(repo), build),
    ):
        pass


def test_a_folder_that_cannot_be_made_is_named(server: Running, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StartupError, match=r"PLUMBLINE_FEATURES_TEMP_DIR.*file/folder cannot be made"),
        running_server(settings_for(server.repo, temp_dir=tmp_path / "file" / "folder"), build),
    ):
        pass
