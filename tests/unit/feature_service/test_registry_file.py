"""Feast's registry file beside writers that empty it before they fill it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from feast.infra.registry.file import FileRegistryStore
from feast.protos.feast.core.Registry_pb2 import Registry as RegistryProto
from feast.repo_config import RegistryConfig

from feature_service.feast_adapters import registry_file
from feature_service.feast_adapters.registry_file import BrokenRegistryError, WholeFileRegistryStore


def stores(folder: Path) -> tuple[WholeFileRegistryStore, FileRegistryStore]:
    """Ours and Feast's own, on one file."""
    config = RegistryConfig(path="data/registry.db")
    return WholeFileRegistryStore(config, folder), FileRegistryStore(config, folder)


def registry(views: int) -> RegistryProto:
    found = RegistryProto()
    for i in range(views):
        found.feature_views.add().spec.name = f"view_{i}"
    return found


def test_what_one_writes_the_other_reads(tmp_path: Path) -> None:
    ours, feasts = stores(tmp_path)
    ours.update_registry_proto(registry(3))
    assert len(feasts.get_registry_proto().feature_views) == 3
    feasts.update_registry_proto(registry(2))
    assert len(ours.get_registry_proto().feature_views) == 2
    assert [item.name for item in (tmp_path / "data").iterdir()] == ["registry.db"]


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_file_in_the_middle_of_a_write_is_waited_for(tmp_path: Path, share: float) -> None:
    """Feast's own store reads an emptied file as a registry without definitions."""
    ours, feasts = stores(tmp_path)
    ours.update_registry_proto(registry(50))
    path = tmp_path / "data" / "registry.db"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    if not share:
        assert len(feasts.get_registry_proto().feature_views) == 0
    found: list[RegistryProto] = []
    reader = threading.Thread(target=lambda: found.append(ours.get_registry_proto()))
    reader.start()
    reader.join(0.05)
    assert not found
    path.write_bytes(whole)
    reader.join(10)
    assert len(found[0].feature_views) == 50


def test_readers_see_every_definition_while_others_write(tmp_path: Path) -> None:
    ours, feasts = stores(tmp_path)
    ours.update_registry_proto(registry(200))
    done = threading.Event()

    def write() -> None:
        for _ in range(40):
            feasts.update_registry_proto(registry(200))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    counts = set()
    while not done.is_set():
        counts.add(len(ours.get_registry_proto().feature_views))
    writer.join()
    assert counts == {200}


def test_a_file_that_stays_broken_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_file, "_PATIENCE_SECONDS", 0.0)
    ours, _ = stores(tmp_path)
    with pytest.raises(FileNotFoundError):
        ours.get_registry_proto()
    path = tmp_path / "data" / "registry.db"
    path.parent.mkdir()
    path.touch()
    with pytest.raises(BrokenRegistryError, match="empty or damaged"):
        ours.get_registry_proto()
