"""Digests change with what decides values, and with nothing else."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from feature_service.digests import service_digest, view_digest
from feature_service.domain import FeatureService, Field, Projection, ValueType, ViewKind
from tests.unit.feature_service.definitions import CITY, SCALED, TRIPS, definitions

assert TRIPS.source is not None
SERVICE = FeatureService("p", "s", (Projection("trips", "trips", TRIPS.features),))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"project": "q"},
        {"kind": ViewKind.STREAM},
        {"features": (Field("n", ValueType.INT32), TRIPS.features[1])},
        {"features": TRIPS.features[:1]},
        {"features": TRIPS.features[::-1]},
        {"join_keys": (Field("driver", ValueType.INT64),)},
        {"ttl": None},
        {"ttl": timedelta(days=3)},
        {"source": replace(TRIPS.source, location="data/other.parquet")},
        {"source": replace(TRIPS.source, timestamp_column="at")},
        {"source": replace(TRIPS.source, created_column=None)},
        {"source": replace(TRIPS.source, columns=(("N", "n"),))},
        {"transformation": "pandas\ndef other(df): ..."},
        {"request_data": (Field("factor", ValueType.FLOAT),)},
        {"inputs": (Projection("city", "city", CITY.features),)},
    ],
)
def test_what_decides_values_changes_the_digest(change: dict[str, Any]) -> None:
    assert view_digest(replace(TRIPS, **change)) != view_digest(TRIPS)


@pytest.mark.parametrize(
    "change",
    [
        {"description": "words"},
        {"tags": (("team", "x"),)},
        {"online": False},
        {"handle": object()},
        {"digest": "sha256:0"},
        {"features": tuple(replace(item, description="words") for item in TRIPS.features)},
        {"source": replace(TRIPS.source, path="/elsewhere/trips.parquet", name="renamed")},
    ],
)
def test_what_does_not_decide_values_leaves_the_digest(change: dict[str, Any]) -> None:
    assert view_digest(replace(TRIPS, **change)) == view_digest(TRIPS)


def test_an_absolute_location_counts_by_its_last_part() -> None:
    assert TRIPS.source is not None
    here = replace(TRIPS, source=replace(TRIPS.source, location="/home/a/trips.parquet"))
    there = replace(TRIPS, source=replace(TRIPS.source, location="/srv/b/trips.parquet"))
    other = replace(TRIPS, source=replace(TRIPS.source, location="/srv/b/others.parquet"))
    assert view_digest(here) == view_digest(there) != view_digest(other)


def test_join_keys_count_in_any_order() -> None:
    keys = (Field("a", ValueType.INT64), Field("b", ValueType.STRING))
    assert view_digest(replace(TRIPS, join_keys=keys)) == view_digest(replace(TRIPS, join_keys=keys[::-1]))


def test_a_digest_is_the_same_in_every_process() -> None:
    code = (
        "from feature_service.digests import view_digest;"
        "from tests.unit.feature_service.definitions import SCALED; print(view_digest(SCALED))"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert runs == {view_digest(SCALED)}


def test_a_service_changes_with_the_views_behind_its_on_demand_views() -> None:
    service = FeatureService("p", "s", (Projection("scaled", "scaled", SCALED.features),))
    changed = definitions((replace(TRIPS, ttl=None), CITY, SCALED))
    unrelated = definitions((TRIPS, replace(CITY, ttl=timedelta(1)), SCALED))
    before = service_digest(service, definitions().views)
    assert service_digest(service, changed.views) != before
    assert service_digest(service, unrelated.views) == before


def test_a_service_is_its_projections_not_its_name() -> None:
    views = definitions().views
    assert service_digest(SERVICE, views) == service_digest(
        replace(SERVICE, name="t", description="words"), views
    )
    fewer = replace(SERVICE, projections=(Projection("trips", "trips", TRIPS.features[:1]),))
    assert service_digest(fewer, views) != service_digest(SERVICE, views)
