"""Where a model was made."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from trainer.app import recorded_code
from trainer.domain import CodeRevision
from trainer.environment import code_revision, installed_packages, without_credentials
from trainer.settings import TrainerSettings


def _git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    _git(folder, "init", "-q")
    (folder / "a").write_text("1")
    _git(folder, "add", "a")
    _git(folder, "commit", "-q", "-m", "first")
    return folder


def test_a_clean_commit_then_a_changed_tree(repository: Path) -> None:
    clean = code_revision(repository)
    assert (clean.repository, clean.dirty) == ("shop", False)
    assert clean.commit == _git(repository, "rev-parse", "HEAD")
    (repository / "a").write_text("2")
    assert code_revision(repository).dirty


def test_a_remote_names_the_repository_without_its_secrets(repository: Path) -> None:
    _git(repository, "remote", "add", "origin", "https://me:secret@git.example.com/team/shop.git?token=x")
    assert code_revision(repository).repository == "https://git.example.com/team/shop.git"


def test_outside_of_version_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    revision = code_revision(tmp_path)
    assert (revision.repository, revision.commit, revision.dirty) == (tmp_path.name, "", False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_revision(tmp_path).commit == ""


@pytest.mark.parametrize(
    ("remote", "shown"),
    [
        ("https://git.example.com/a.git", "https://git.example.com/a.git"),
        ("ssh://git@git.example.com:22/a.git", "ssh://git.example.com:22/a.git"),
        ("git@git.example.com:team/a.git", "git@git.example.com:team/a.git"),
        ("/srv/git/a.git", "a.git"),
        ("file:///srv/git/a.git", "a.git"),
        ("", ""),
    ],
)
def test_remotes(remote: str, shown: str) -> None:
    assert without_credentials(remote) == shown


def test_packages_are_sorted_and_digested() -> None:
    environment = installed_packages()
    assert environment.python == platform.python_version()
    assert environment.platform == platform.platform()
    assert list(environment.lines) == sorted(set(environment.lines))
    assert f"lightgbm=={metadata.version('lightgbm')}" in environment.lines
    text = "\n".join(environment.lines) + "\n"
    assert environment.digest == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def test_what_an_image_was_built_from_goes_before_what_git_says(tmp_path: Path) -> None:
    settings = TrainerSettings(code_repository="shop", code_commit="0123abc", code_dirty=True)
    assert recorded_code(settings, tmp_path) == CodeRevision("shop", "0123abc", dirty=True)
    assert recorded_code(TrainerSettings(), tmp_path).commit == ""
