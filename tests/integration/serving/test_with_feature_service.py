"""Serving between the real registry and the real feature_service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from feature_service.app import build as build_features
from feature_service.feast_adapters.apply import apply
from feature_service.settings import FeatureSettings
from plumbline.features.client import FeatureClient
from plumbline.features.v1 import feature_retrieval_service_pb2 as features_pb
from plumbline.registry.client import RegistryClient
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.serving import errors
from plumbline.serving.client import PredictionClient
from plumbline.types.v1 import column_pb2 as types
from registry_service.app import build as build_registry
from registry_service.settings import RegistrySettings
from serving.app import build as build_serving
from serving.settings import ServingSettings
from tests.integration.serving.server import publish
from tests.support import running_server, wait_until

# Said by Feast about every repository with an on-demand view.
pytestmark = pytest.mark.filterwarnings("ignore:On demand feature view is an experimental:RuntimeWarning")

CONFIG = """
project: shop
provider: local
registry: {folder}/registry.db
offline_store: {{type: feature_service.stores.asof.AsofOfflineStore}}
online_store: {{type: sqlite, path: {folder}/online.db}}
entity_key_serialization_version: 3
"""

DEFINITIONS = """
from datetime import timedelta

import pandas as pd
from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float32, Float64, Int64, UnixTimestamp

customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.INT64)
spending = FeatureView(
    name="spending",
    entities=[customer],
    ttl=timedelta(days=1),
    schema=[
        Field(name="spent", dtype=Float64),
        Field(name="orders", dtype=Int64),
        Field(name="rate", dtype=Float32),
    ],
    source=FileSource(
        name="spending_table", path="{folder}/spending.parquet", timestamp_field="event_timestamp"
    ),
    online=True,
)
asked = RequestSource(name="asked", schema=[Field(name="at", dtype=UnixTimestamp)])


@on_demand_feature_view(sources=[asked], schema=[Field(name="hour", dtype=Int64)])
def clock(inputs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({{"hour": pd.to_datetime(inputs["at"], utc=True).dt.hour.astype("int64")}})


shop_v1 = FeatureService(name="shop_v1", features=[spending, clock])
"""

NOW = datetime.now(UTC).replace(microsecond=0)
AGES = (timedelta(hours=1), timedelta(hours=2), timedelta(days=3))
REGIONS = ("north", "south")


def feature(name: str, view: str, kind: types.ValueType.ValueType) -> res.ModelInput:
    source = res.INPUT_SOURCE_FEATURE
    return res.ModelInput(name=name, type=kind, source=source, feature_reference=f"{view}:{name}")


def train() -> lightgbm.Booster:
    rng = np.random.default_rng(7)
    ranges = (300, 9, 2, 24, 2)
    data = np.column_stack([rng.integers(0, limit, 500) for limit in ranges]).astype(float)
    label = (data[:, 0] + 10 * data[:, 3] > 200).astype(int)
    names = ["spent", "orders", "rate", "hour", "region"]
    dataset = lightgbm.Dataset(data, label, feature_name=names, categorical_feature=["region"])
    return lightgbm.train({"objective": "binary", "verbosity": -1, "num_threads": 1}, dataset, 10)


@dataclass
class Suite:
    features: FeatureClient
    registry: RegistryClient
    serving: PredictionClient
    booster: lightgbm.Booster
    signature: res.ModelSignature
    folder: Path


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    folder = tmp_path_factory.mktemp("suite")
    repo = folder / "repo"
    repo.mkdir()
    (repo / "feature_store.yaml").write_text(CONFIG.format(folder=folder))
    (repo / "definitions.py").write_text(DEFINITIONS.format(folder=folder))
    apply(repo, validate_sources=False)
    registry_settings = RegistrySettings(
        port=0,
        metrics_port=None,
        http_port=None,
        database_url=f"sqlite:///{folder}/models.db",
        artifacts_dir=folder / "artifacts",
    )
    with ExitStack() as stack:
        features_address = stack.enter_context(
            running_server(
                FeatureSettings(port=0, metrics_port=None, http_port=None, repo=repo), build_features
            )
        )
        features = stack.enter_context(FeatureClient(features_address))
        features.push(
            "spending",
            {
                "customer_id": [1, 2, 3],
                "spent": [150.5, None, 20.0],
                "orders": [3, 4, 5],
                "rate": np.array([0.1, 0.2, 0.3], np.float32),
                "event_timestamp": [NOW - age for age in AGES],
            },
            destination=features_pb.PUSH_DESTINATION_ONLINE,
        )
        registry_address = stack.enter_context(running_server(registry_settings, build_registry))
        registry = stack.enter_context(RegistryClient(registry_address))
        definition = features.get_feature_service("shop_v1")
        signature = res.ModelSignature(
            inputs=[
                feature("spent", "spending", types.VALUE_TYPE_DOUBLE),
                feature("orders", "spending", types.VALUE_TYPE_INT64),
                feature("rate", "spending", types.VALUE_TYPE_FLOAT),
                feature("hour", "clock", types.VALUE_TYPE_INT64),
                res.ModelInput(
                    name="region",
                    type=types.VALUE_TYPE_STRING,
                    source=res.INPUT_SOURCE_REQUEST,
                    categories=REGIONS,
                ),
            ],
            outputs=[types.Field(name="probability", type=types.VALUE_TYPE_DOUBLE)],
            feature_service=definition.name,
            feature_service_digest=definition.digest,
            join_keys=definition.join_keys,
            request_data=definition.request_data,
        )
        booster = train()
        version = publish(registry, folder, booster.model_to_string(), signature)
        registry.set_alias("delay@champion", version, reason="the first")
        settings = ServingSettings(
            port=0,
            models="delay@champion",
            registry_address=registry_address,
            features_address=features_address,
            cache_dir=folder / "cache",
            poll_seconds=0.1,
            retry_seconds=0.5,
        )
        serving = stack.enter_context(
            PredictionClient(stack.enter_context(running_server(settings, build_serving)))
        )
        wait_until(lambda: serving.list_models()[0].model_version == version)
        yield Suite(features, registry, serving, booster, signature, folder)


AT = datetime(2024, 5, 1, 17, 30, tzinfo=UTC)


def test_features_come_from_the_online_store_and_on_demand_views(suite: Suite) -> None:
    reply = suite.serving.predict(
        {"customer_id": [1, 2, 3, 99]},
        request_data={"at": [AT] * 4, "region": ["south", "north", "west", "south"]},
        return_features=True,
    )
    nan, tenth, fifth = np.nan, float(np.float32(0.1)), float(np.float32(0.2))
    matrix = [
        [150.5, 3, tenth, 17, 1],
        [nan, 4, fifth, 17, 0],
        [nan, nan, nan, 17, nan],
        [nan, nan, nan, 17, 1],
    ]
    assert reply.outputs["probability"].to_pylist() == suite.booster.predict(np.array(matrix)).tolist()
    assert reply.features is not None
    assert reply.features.status_names("spent") == ["PRESENT", "NULL_VALUE", "OUTSIDE_MAX_AGE", "NOT_FOUND"]
    assert reply.features.values["hour"].to_pylist() == [17] * 4
    times = reply.features.event_times["spending"].to_pylist()
    assert times[:2] == [NOW - timedelta(hours=1), NOW - timedelta(hours=2)]
    assert times[3] is None
    assert reply.definition_digest == suite.signature.feature_service_digest


def test_a_prediction_is_the_same_as_from_the_features_it_used(suite: Suite) -> None:
    looked_up = suite.serving.predict(
        {"customer_id": [1, 2]},
        request_data={"at": [AT] * 2, "region": ["south", "north"]},
        return_features=True,
    )
    assert looked_up.features is not None
    used = looked_up.features.values
    given = suite.serving.predict_features({name: used[name] for name in used.column_names})
    assert given.outputs == looked_up.outputs


def test_a_model_that_asks_for_more_than_there_is_is_refused(suite: Suite) -> None:
    served = suite.serving.list_models()[0].model_version
    wrong = res.ModelSignature()
    wrong.CopyFrom(suite.signature)
    wrong.inputs[0].feature_reference = "spending:saved"
    version = publish(suite.registry, suite.folder, suite.booster.model_to_string(), wrong)
    suite.registry.set_alias("delay@champion", version, reason="a mistake")
    wait_until(lambda: "spending:saved" in suite.serving.list_models()[0].last_error)
    assert suite.serving.list_models()[0].model_version == served
    suite.registry.set_alias("delay@champion", served, reason="back")
    wait_until(lambda: suite.serving.list_models()[0].last_error == "")


def test_a_missing_request_column_is_named_before_anything_is_asked(suite: Suite) -> None:
    with pytest.raises(errors.InputMissing) as caught:
        suite.serving.predict({"customer_id": [1]}, request_data={"region": ["south"]})
    assert caught.value.metadata == {"column": "at"}
