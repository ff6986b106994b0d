"""What `feast apply` does, quietly, told in one line for each change."""

from __future__ import annotations

import contextlib
import io
import linecache
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from feast import FeatureStore
from feast.repo_config import RepoConfig
from feast.repo_operations import _get_repo_contents, apply_total_with_repo_instance

from feature_service.feast_adapters.repo import FeastRepo, load_config
from feature_service.planning import Definitions
from servicekit.server import StartupError


@dataclass(frozen=True)
class Change:
    """One definition that apply touched. kind: "entity", "feature view" or "feature service"."""

    what: Literal["added", "changed", "removed"]
    kind: str
    name: str


def apply(repo: Path, *, validate_sources: bool = True) -> list[Change]:
    """Makes the registry and the online store what the repository's Python files define.

    Idempotent: without a change in the files, nothing is changed and the list is empty. Raises StartupError
    when the files cannot be loaded or are refused.
    """
    folder = repo.absolute()  # before the working folder changes
    config = load_config(folder)
    registry = FeastRepo(config)
    with registry.writing():
        before = registry.load()
        said = io.StringIO()
        try:
            with _inside(folder), contextlib.redirect_stdout(said), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Feast warns of its own features; nothing to act on
                _apply(config, folder, validate_sources)
        except SystemExit as error:  # how Feast refuses a repository
            raise StartupError(f"{repo}: {said.getvalue().strip() or 'refused by Feast'}") from error
        except Exception as error:  # whatever the repository's own code, or Feast's checks of it, raise
            raise StartupError(f"{_place(error, folder)}: {type(error).__name__}: {error}") from error
        after = registry.load()
    return _changes(before, after)


def _apply(config: RepoConfig, repo: Path, validate_sources: bool) -> None:
    contents = _get_repo_contents(repo, config.project, config)
    store = FeatureStore(repo_path=str(repo), config=config)
    apply_total_with_repo_instance(
        store, config.project, store.registry, contents, skip_source_validation=not validate_sources
    )


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Feast imports a repository's files as modules relative to the working folder.

    They are forgotten afterwards: another repository's files may have the same names.
    """
    before, path, bytecode = Path.cwd(), list(sys.path), sys.dont_write_bytecode
    modules = set(sys.modules)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    # By it Feast reads the text of functions: that of files as they are now, not at an earlier apply.
    linecache.checkcache()
    try:
        yield
    finally:
        os.chdir(before)
        sys.path[:] = path
        sys.dont_write_bytecode = bytecode
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(folder):
                del sys.modules[name]


def _place(error: Exception, folder: Path) -> str:
    """The line of the repository's files that an error comes from; the folder when it comes from none."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(folder)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(folder)


def _changes(before: Definitions, after: Definitions) -> list[Change]:
    kinds: list[tuple[str, Callable[[Definitions], Mapping[str, Any]]]] = [
        ("entity", lambda found: found.entities),
        ("feature view", lambda found: found.views),
        ("feature service", lambda found: found.services),
    ]
    changes = []
    for kind, items in kinds:
        old, new = items(before), items(after)
        for name in sorted({*old, *new}):
            if name not in old:
                changes.append(Change("added", kind, name))
            elif name not in new:
                changes.append(Change("removed", kind, name))
            elif old[name] != new[name]:
                changes.append(Change("changed", kind, name))
    return changes
