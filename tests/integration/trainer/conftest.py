"""Real servers around the trainer: feature_service as a process, registry_service in this one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from plumbline.registry.client import RegistryClient
from registry_service.app import build
from registry_service.settings import RegistrySettings
from servicekit.telemetry import build_telemetry
from tests.support import running_server, wait_until
from trainer.__main__ import main

ROWS = 4_000
START = datetime(2024, 1, 1, tzinfo=UTC)
SHOPS = ["Ålesund", "Bergen", "Oslo"]

_DEFINITIONS = """
    from datetime import timedelta

    import pandas as pd
    from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource, ValueType
    from feast.on_demand_feature_view import on_demand_feature_view
    from feast.types import Float64, Int64, String

    shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.STRING)
    visits = FeatureView(
        name="visits",
        entities=[shop],
        ttl=timedelta(hours=6),
        schema=[Field(name="load", dtype=Float64), Field(name="weather", dtype=String)],
        source=FileSource(name="visits_table", path="{path}", timestamp_field="event_timestamp"),
    )
    asked = RequestSource(name="asked", schema=[Field(name="price", dtype=Int64)])


    @on_demand_feature_view(
        sources=[asked, visits], schema=[Field(name="strain", dtype=Float64)], mode="pandas"
    )
    def strained(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({{"strain": inputs["price"] * inputs["load"]}})


    orders_v1 = FeatureService(name="orders_v1", features=[visits, strained])
"""

_STORE = """
    project: shop
    provider: local
    registry: {folder}/registry.db
    offline_store:
      type: feature_service.stores.asof.AsofOfflineStore
    online_store:
      type: sqlite
      path: {folder}/online.db
    entity_key_serialization_version: 3
"""


def visits_table() -> pa.Table:
    """The load and weather of each shop at every full hour."""
    rng = np.random.default_rng(5)
    rows = [
        {
            "shop": shop,
            "event_timestamp": START + timedelta(hours=hour),
            "load": float(rng.random()),
            "weather": str(rng.choice(["rain", "sun"])),
        }
        for hour in range(20 * 24)
        for shop in SHOPS
    ]
    moments = pa.timestamp("us", tz="UTC")
    schema = {"shop": pa.string(), "event_timestamp": moments, "load": pa.float64(), "weather": pa.string()}
    return pa.Table.from_pylist(rows, schema=pa.schema(schema))


def orders_table() -> pa.Table:
    """Orders every seven minutes; whether one is late leans on the load of the last full hour."""
    rng = np.random.default_rng(6)
    loads = {
        (row["shop"], row["event_timestamp"]): row["load"]
        for row in visits_table().select(["shop", "event_timestamp", "load"]).to_pylist()
    }
    rows = []
    for number in range(ROWS):
        shop, moment = str(rng.choice(SHOPS)), START + timedelta(minutes=7 * number)
        load = loads[shop, moment.replace(minute=0)]
        rows.append(
            {
                "order": number,
                "event_timestamp": moment,
                "shop": shop,
                "price": int(rng.integers(1, 100)),
                "late": int(rng.random() < 0.1 + 0.8 * load),
                "known_at": moment + timedelta(hours=3),
            }
        )
    moments = pa.timestamp("us", tz="UTC")
    names = {"order": pa.int64(), "event_timestamp": moments, "shop": pa.string(), "price": pa.int64()}
    return pa.Table.from_pylist(rows, schema=pa.schema(names | {"late": pa.int64(), "known_at": moments}))


@pytest.fixture(scope="session")
def features_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """feature_service on a small Feast repository."""
    repo = tmp_path_factory.mktemp("feast")
    pq.write_table(visits_table(), repo / "visits.parquet")
    definitions = textwrap.dedent(_DEFINITIONS).format(path=repo / "visits.parquet")
    (repo / "definitions.py").write_text(definitions, encoding="utf-8")
    (repo / "feature_store.yaml").write_text(textwrap.dedent(_STORE).format(folder=repo), encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "feature_service", "apply", "--repo", repo], check=True, timeout=120
    )
    log = repo / "server.log"
    settings = {"REPO": str(repo), "PORT": "0", "METRICS_PORT": "0", "HTTP_PORT": "none"}
    environment = os.environ | {f"PLUMBLINE_FEATURES_{name}": value for name, value in settings.items()}
    with log.open("wb") as output:
        server = subprocess.Popen([sys.executable, "-m", "feature_service"], stderr=output, env=environment)
    try:
        listens = re.compile(r"listens on (127\.0\.0\.1:\d+)")
        wait_until(lambda: bool(listens.search(log.read_text())) or server.poll() is not None, 90, "a server")
        found = listens.search(log.read_text())
        assert found, log.read_text()
        yield found[1]
    finally:
        server.terminate()
        server.wait(30)


@dataclass
class Stack:
    """The two services, and jobs run against them."""

    folder: Path
    features: str
    registry: str
    client: RegistryClient
    spans: InMemorySpanExporter
    capture: pytest.CaptureFixture[str]

    def config(self, **changes: Any) -> Path:
        """The file of a job that learns to tell late orders; `changes` replace whole groups."""
        values: dict[str, Any] = {
            "model": "late_orders",
            "entity_rows": {
                "path": str(self.folder / "orders.parquet"),
                "label": "late",
                "label_timestamp": "known_at",
                "row_id": ["order"],
            },
            "features": {"service": "orders_v1"},
            "inputs": {"entity_columns": ["shop"]},
            "split": {"valid_start": "2024-01-14T00:00:00Z", "test_start": "2024-01-17T00:00:00Z"},
            "training": {
                "num_boost_round": 30,
                "early_stopping_rounds": 5,
                "parameters": {"num_leaves": 7, "min_data_in_leaf": 10},
            },
            "baselines": [{"name": "shop_only", "inputs": ["shop"]}],
            "snapshot_dir": str(self.folder / "snapshots"),
        }
        path = self.folder / "training.yaml"
        path.write_text(yaml.safe_dump(values | changes), encoding="utf-8")
        return path

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """`python -m trainer` with these arguments, as a process."""
        return subprocess.Popen(
            [sys.executable, "-m", "trainer", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | self.addresses() | environment,
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of one job, run in this process: LightGBM takes
        seconds to import."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (self.addresses() | environment).items():
                patch.setenv(name, value)
            self.capture.readouterr()
            try:
                code = main(arguments)
            except SystemExit as usage:
                code = int(usage.code or 0)
        output, errors = self.capture.readouterr()
        return code, output, errors

    def addresses(self) -> dict[str, str]:
        """The variables that a job finds the services by."""
        return {
            "PLUMBLINE_FEATURES_ADDRESS": self.features,
            "PLUMBLINE_REGISTRY_ADDRESS": self.registry,
            "PLUMBLINE_ACTOR": "tester",
        }


@pytest.fixture
def stack(tmp_path: Path, features_address: str, capsys: pytest.CaptureFixture[str]) -> Iterator[Stack]:
    pq.write_table(orders_table(), tmp_path / "orders.parquet")
    settings = RegistrySettings(
        port=0,
        metrics_port=None,
        http_port=None,
        database_url=f"sqlite:///{tmp_path}/registry.db",
        artifacts_dir=tmp_path / "artifacts",
        expiry_seconds=0.2,
        expiry_grace_seconds=0,
    )
    spans = InMemorySpanExporter()
    telemetry = build_telemetry("registry_service", processors=[SimpleSpanProcessor(spans)])
    with running_server(settings, build, telemetry) as address, RegistryClient(address) as client:
        yield Stack(tmp_path, features_address, address, client, spans, capsys)
    telemetry.shutdown()
