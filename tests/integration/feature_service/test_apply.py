"""Apply, in this process."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from feature_service.feast_adapters import registry_file
from feature_service.feast_adapters.apply import Change, apply
from feature_service.feast_adapters.definitions import on_demand_view
from feature_service.feast_adapters.registry_file import BrokenRegistryError
from feature_service.feast_adapters.repo import FeastRepo, load_config
from servicekit.server import StartupError
from tests.integration.feature_service.repo import DEFINITIONS, ago, write_repo


def test_apply_tells_what_it_did_and_does_nothing_twice(tmp_path: Path) -> None:
    repo = write_repo(tmp_path)
    first = apply(repo)
    assert {change.what for change in first} == {"added"}
    assert Change("added", "entity", "driver") in first
    assert Change("added", "feature view", "scaled") in first
    assert apply(repo) == []
    (repo / "definitions.py").write_text(DEFINITIONS.replace('description="Trips"', 'description="Rides"'))
    assert Change("changed", "feature view", "trips") in apply(repo)


def test_the_order_of_an_on_demand_views_sources_says_nothing(tmp_path: Path) -> None:
    """They are a protobuf map, whose order changes from one reading to the next."""
    repo = write_repo(tmp_path)
    apply(repo)
    views = FeastRepo(load_config(repo)).load().views
    handle: Any = views["gap"].handle
    projections = handle.source_feature_view_projections
    assert len(projections) == 2
    handle.source_feature_view_projections = dict(reversed(projections.items()))
    again = on_demand_view(handle, "tiny", views)
    assert (again.inputs, again.digest) == (views["gap"].inputs, views["gap"].digest)


def test_removed_definitions_are_removed(tmp_path: Path) -> None:
    repo = write_repo(tmp_path)
    apply(repo)
    without = DEFINITIONS[: DEFINITIONS.index("route = FeatureService")]
    (repo / "definitions.py").write_text(without)
    assert apply(repo) == [Change("removed", "feature service", "route")]
    assert set(FeastRepo(load_config(repo)).load().services) == {"tiny"}


def test_digests_do_not_depend_on_the_folder(tmp_path: Path) -> None:
    """Nor on the order in which Feast hands out what it keeps in sets."""
    found = []
    for name in ("here", "there"):
        repo = write_repo(tmp_path / name)
        apply(repo)
        definitions = FeastRepo(load_config(repo)).load()
        digests = {view.name: view.digest for view in definitions.views.values()}
        found.append(digests | {service.name: service.digest for service in definitions.services.values()})
    assert found[0] == found[1]
    assert len(set(found[0].values())) == len(found[0])


def test_files_of_one_name_in_two_repositories_are_not_mixed_up(tmp_path: Path) -> None:
    apply(write_repo(tmp_path / "one"))
    other = write_repo(tmp_path / "two", definitions=DEFINITIONS.replace('name="tiny"', 'name="huge"'))
    assert Change("added", "feature service", "huge") in apply(other)


def test_definitions_that_do_not_load_are_refused_and_change_nothing(tmp_path: Path) -> None:
    repo = write_repo(tmp_path)
    apply(repo)
    (repo / "definitions.py").write_text("import os\nimport a_module_that_is_not_there\n")
    with pytest.raises(StartupError, match=r"definitions\.py:2: .*a_module_that_is_not_there"):
        apply(repo)
    assert set(FeastRepo(load_config(repo)).load().services) == {"tiny", "route"}


def test_a_folder_that_is_no_repository_is_said(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"feature_store\.yaml does not exist"):
        load_config(tmp_path)


def test_a_registry_cut_short_is_read_again_once_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Feast writes its registry in place, so a reader may meet half of it."""
    monkeypatch.setattr(registry_file, "_PATIENCE_SECONDS", 0.0)
    repo = write_repo(tmp_path)
    apply(repo)
    opened = FeastRepo(load_config(repo))
    whole = (repo / "data" / "registry.db").read_bytes()
    # A file that was written this moment may be written again within the same tick of the clock.
    os.utime(repo / "data" / "registry.db", (1_700_000_000, 1_700_000_000))
    assert set(opened.load().services) == {"tiny", "route"}
    assert not opened.changed()
    (repo / "data" / "registry.db").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BrokenRegistryError, match="empty or damaged"):
        opened.load()
    (repo / "data" / "registry.db").write_bytes(whole)
    assert opened.changed()
    assert set(opened.load().services) == {"tiny", "route"}


def test_a_configuration_that_is_not_valid_is_refused(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text("project: 1-2\nprovider: nowhere\n")
    with pytest.raises(StartupError, match=r"feature_store\.yaml is not valid"):
        load_config(tmp_path)


def test_variables_in_the_configuration_are_those_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = write_repo(tmp_path)
    yaml = repo / "feature_store.yaml"
    yaml.write_text(yaml.read_text().replace("data/online.db", "${STATE_OF_TEST}/online.db"))
    monkeypatch.setenv("STATE_OF_TEST", str(tmp_path / "state"))
    assert load_config(repo).online_store.path == str(tmp_path / "state" / "online.db")


def test_a_materialized_range_is_remembered_and_one_that_ends_in_the_future_is_not_trusted(
    tmp_path: Path,
) -> None:

    repo = write_repo(tmp_path)
    apply(repo)
    opened = FeastRepo(load_config(repo))
    view = opened.load().views["trips"]
    assert opened.last_end(view) is None
    opened.record(view, ago(3), ago(2))
    opened.record(view, ago(2), ago(1))
    opened.record(view, ago(1), ago(-1) + timedelta(hours=1))
    assert opened.last_end(view) == ago(1)
    assert FeastRepo(load_config(repo)).last_end(view) == ago(1)
