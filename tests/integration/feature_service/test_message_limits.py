"""Limits of a message: what is cut to fit, and what a caller reads where nothing can be cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from feature_service.app import build
from plumbline.channel import CLIENT_MIN_MESSAGE_BYTES, MAX_MESSAGE_BYTES, MIN_MESSAGE_BYTES
from plumbline.errors import ResourceExhausted
from plumbline.features.client import FeatureClient
from tests.integration.feature_service.conftest import Running, settings_for
from tests.integration.feature_service.repo import ago
from tests.support import running_server

MANY = 20_000
#: 6 MB, of which one batch of Arrow is made.
LARGE = pa.table({"driver_id": [1] * MANY, "event_timestamp": [ago(1)] * MANY, "text": ["x" * 300] * MANY})


@pytest.fixture(scope="module")
def least(server: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that takes and sends the least that the settings allow."""
    small = settings_for(
        server.repo,
        temp_dir=tmp_path_factory.mktemp("least"),
        data_roots=(str(tmp_path_factory.getbasetemp()),),
        max_message_bytes=MIN_MESSAGE_BYTES,
    )
    with running_server(small, build) as address:
        yield address


def test_entity_rows_and_results_fit_the_least_limit(least: str) -> None:
    with FeatureClient(least) as client:
        found = client.get_historical_features(["trips:n"], LARGE).read_all()
    assert found.drop_columns(["n"]).cast(LARGE.schema).equals(LARGE)
    assert set(found["n"].to_pylist()) == {2}


def test_rows_of_a_result_that_the_server_writes_fit_it_too(least: str, tmp_path: Path) -> None:
    with FeatureClient(least) as client:
        summary = client.write_historical_features(["trips:n"], LARGE, str(tmp_path / "out.parquet"))
    assert summary.rows_out == MANY


def test_results_fit_the_least_limit_of_a_client(server: Running) -> None:
    with FeatureClient(server.address, max_message_bytes=CLIENT_MIN_MESSAGE_BYTES) as client:
        assert client.get_historical_features(["trips:n"], LARGE).read_all().num_rows == MANY


def test_a_request_that_is_too_large_names_the_limit_and_the_setting(least: str) -> None:
    """One message, which nobody can cut."""
    with FeatureClient(least) as client, pytest.raises(ResourceExhausted) as caught:
        client.get_online_features(["trips:n"], {"driver_id": range(10_000)})
    assert f"limit of the server at {least} is {MIN_MESSAGE_BYTES}" in caught.value.message
    assert "MAX_MESSAGE_BYTES" in caught.value.message


def test_a_client_takes_larger_replies_when_it_is_told_to(server: Running, tmp_path: Path) -> None:
    """A server whose limit was raised is of use to a client whose limit is too."""
    wide, many = 4 * MAX_MESSAGE_BYTES, 200_000
    entities = {"small_id": [1] * many}
    settings = settings_for(
        server.repo, temp_dir=tmp_path, max_message_bytes=wide, max_entities=many, store_timeout_seconds=60
    )
    with running_server(settings, build) as address:
        with (
            FeatureClient(address, timeout=60) as client,
            pytest.raises(ResourceExhausted, match="max_message_bytes"),
        ):
            client.get_online_features(["kinds:*"], entities)
        with FeatureClient(address, timeout=60, max_message_bytes=wide) as client:
            assert client.get_online_features(["kinds:*"], entities).values.num_rows == many


def test_a_client_of_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1048576"):
        FeatureClient("localhost:1", max_message_bytes=CLIENT_MIN_MESSAGE_BYTES - 1)
