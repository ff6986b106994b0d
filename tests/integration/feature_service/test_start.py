"""What the service checks before it listens."""

from __future__ import annotations

from pathlib import Path

import pytest

from feature_service.app import build
from servicekit.server import StartupError
from tests.integration.feature_service.conftest import Running, settings_for
from tests.support import running_server


def test_the_folder_for_temporary_files_is_made(server: Running, tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    with running_server(settings_for(server.repo, temp_dir=folder), build):
        assert folder.is_dir()


def test_a_folder_that_cannot_be_made_is_named(server: Running, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StartupError, match=r"PLUMBLINE_FEATURES_TEMP_DIR.*file/folder cannot be made"),
        running_server(settings_for(server.repo, temp_dir=tmp_path / "file" / "folder"), build),
    ):
        pass
