"""Which version is served: aliases that move, versions that are refused, a registry that is away."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lightgbm
import pytest

from plumbline.errors import DeadlineExceeded, Internal, PlumblineError
from plumbline.features.errors import StoreUnavailable
from plumbline.registry.errors import BlobCorrupt, DatabaseUnavailable, VersionNotReady
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.serving import errors
from plumbline.serving.client import PredictionClient
from plumbline.types.v1 import column_pb2 as types
from servicekit.telemetry import build_telemetry
from tests.support import wait_until
from tests.unit.serving.conftest import World
from tests.unit.serving.fakes import FakeRegistry, listening, signature, train
from tests.unit.serving.test_predictions import GIVEN, KEYS, MATRIX, SENT

Trained = tuple[str, lightgbm.Booster]
V1, V2 = "models/delay/versions/1", "models/delay/versions/2"


def version(client: PredictionClient) -> str:
    return client.list_models()[0].model_version


def last_error(client: PredictionClient) -> str:
    return client.list_models()[0].last_error


def test_a_moved_alias_is_followed_without_a_failed_request(
    world: World, trained: Trained, retrained: Trained
) -> None:
    """Every reply comes whole from one version: its scores are those of the version it names."""
    expected = {V1: trained[1].predict(MATRIX).tolist(), V2: retrained[1].predict(MATRIX).tolist()}
    assert expected[V1] != expected[V2]
    world.registry.add(retrained[0])
    stop = threading.Event()

    def ask(client: PredictionClient) -> list[str]:
        seen = []
        while not stop.is_set():
            reply = client.predict(KEYS, request_data=SENT, return_features=True)
            assert reply.outputs["probability"].to_pylist() == expected[reply.model_version]
            sha256 = world.registry.versions[reply.model_version].message.files[0].sha256
            assert reply.model_sha256 == sha256
            seen.append(reply.model_version)
        return seen

    with world.serving() as client, ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, client) for _ in range(4)]
        try:
            for target in (V2, V1, V2):
                world.registry.point("champion", target)
                wait_until(lambda: version(client) == target, what=target)  # noqa: B023
        finally:
            stop.set()
        seen = [name for future in asking for name in future.result(30)]
    assert {V1, V2} <= set(seen)


def test_a_version_whose_signature_does_not_fit_is_refused_and_the_old_one_stays(
    world: World, retrained: Trained
) -> None:
    changed = signature()
    changed.inputs[2].feature_reference = "weather:wind"
    world.registry.add(retrained[0], changed)
    with world.serving() as client:
        world.registry.point("champion", V2)
        wait_until(lambda: last_error(client) != "")
        assert "weather:wind" in last_error(client)
        assert f"{V1} goes on being served" in last_error(client)
        assert client.predict(KEYS, request_data=SENT).model_version == V1
        world.registry.point("champion", V1)
        wait_until(lambda: last_error(client) == "", what="the note is cleared when the alias is back")


def test_a_refused_version_is_served_once_the_definitions_fit(world: World, retrained: Trained) -> None:
    world.registry.add(retrained[0])
    with world.serving() as client:
        wind = world.features.definition.projections[0].features[2]
        wind.type = types.VALUE_TYPE_STRING
        world.registry.point("champion", V2)
        wait_until(lambda: "wind is STRING" in last_error(client))
        wind.type = types.VALUE_TYPE_FLOAT
        wait_until(lambda: version(client) == V2)
        assert last_error(client) == ""


def test_altered_bytes_are_not_loaded(world: World, retrained: Trained) -> None:
    name = world.registry.add(retrained[0])
    world.registry.versions[name].served = retrained[0].replace("tree", "treE", 1).encode()
    with world.serving() as client:
        world.registry.point("champion", V2)
        wait_until(lambda: last_error(client) != "")
        assert "sha256" in last_error(client)
        assert version(client) == V1
        world.registry.versions[name].served = None
        wait_until(lambda: version(client) == V2, what="the repaired artifact is loaded")


def test_a_version_without_a_model_file_is_refused(world: World, retrained: Trained) -> None:
    world.registry.add(retrained[0], path="other.txt")
    with world.serving() as client:
        world.registry.point("champion", V2)
        wait_until(lambda: "has no file 'model.txt' (files: 'other.txt')" in last_error(client))
        assert version(client) == V1


@pytest.mark.parametrize("text", ["no model", "tree\nversion=v4\n", "{trained}\npandas_categorical:x\n"])
def test_a_file_that_is_no_model_is_refused_and_the_next_version_followed(
    world: World, trained: Trained, retrained: Trained, text: str
) -> None:
    world.registry.add(text.format(trained=trained[0]))
    good = world.registry.add(retrained[0])
    with world.serving() as client:
        world.registry.point("champion", V2)
        wait_until(lambda: "LightGBM cannot read model.txt" in last_error(client))
        assert client.predict_features(GIVEN).model_version == V1
        world.registry.point("champion", good)
        wait_until(lambda: version(client) == good)


def test_a_version_that_is_not_ready_is_refused(world: World, retrained: Trained) -> None:
    name = world.registry.add(retrained[0])
    world.registry.versions[name].message.state = res.VERSION_STATE_ARCHIVED
    with world.serving() as client:
        world.registry.point("champion", V2)
        wait_until(lambda: "ARCHIVED" in last_error(client))
        assert version(client) == V1


@pytest.mark.parametrize("told_by_the_registry", [True, False])
@pytest.mark.parametrize("models", ["delay@champion", "delay/1"])
def test_an_archived_champion_is_served_on_across_a_restart(
    world: World, retrained: Trained, models: str, told_by_the_registry: bool
) -> None:
    """A registry refuses to resolve it, or resolves it to a version that is ARCHIVED."""
    world.registry.add(retrained[0])
    with world.serving(models=models) as client:
        assert version(client) == V1
    if told_by_the_registry:
        world.registry.error = VersionNotReady(f"{V1} is ARCHIVED")
    world.registry.versions[V1].message.state = res.VERSION_STATE_ARCHIVED
    with world.serving(models=models) as client:
        assert client.predict(KEYS, request_data=SENT).model_version == V1
        assert "ARCHIVED" in last_error(client)
        assert f"{V1} goes on being served" in last_error(client)
        world.registry.error = None
        world.registry.versions[V1].message.state = res.VERSION_STATE_READY
        wait_until(lambda: last_error(client) == "", what="the note is cleared when it is READY again")


def test_a_cleared_alias_leaves_what_is_served(world: World) -> None:
    with world.serving() as client:
        world.registry.aliases.clear()
        wait_until(lambda: "does not exist" in last_error(client))
        assert client.predict_features(GIVEN).model_version == V1


def test_a_pinned_version_is_served_as_it_is(world: World, retrained: Trained) -> None:
    world.registry.add(retrained[0])
    with world.serving(models="delay/2,delay@champion") as client:
        assert [m.model_version for m in client.list_models()] == [V2, V1]
        assert client.predict_features(GIVEN).model_version == V2
        assert client.predict_features(GIVEN, model="delay@champion").model_version == V1


def test_nothing_is_answered_before_a_model_is_loaded(world: World) -> None:
    world.registry.aliases.clear()
    with world.serving(wait=False) as client:
        wait_until(lambda: "does not exist" in last_error(client))
        for call in (lambda: client.predict_features(GIVEN), client.get_model):
            with pytest.raises(errors.ModelNotLoaded, match="does not exist") as caught:
                call()
            assert caught.value.metadata == {"model": "models/delay/aliases/champion"}
        world.registry.point("champion", V1)
        wait_until(lambda: version(client) == V1)


def test_a_model_is_not_served_before_its_features_are_known(world: World) -> None:
    with world.serving(wait=False, features_address="127.0.0.1:1") as client:
        wait_until(lambda: "127.0.0.1:1" in last_error(client))
        with pytest.raises(errors.ModelNotLoaded):
            client.predict_features(GIVEN)


def test_what_was_served_before_answers_given_features_while_features_are_away(world: World) -> None:
    with world.serving() as client:
        assert version(client) == V1
    with world.serving(features_address="127.0.0.1:1") as client:
        assert client.predict_features(GIVEN).model_version == V1
        with pytest.raises(errors.FeaturesUnavailable):
            client.predict(KEYS, request_data=SENT)


def test_a_version_never_served_waits_for_features_and_the_last_one_is_served(
    world: World, retrained: Trained
) -> None:
    """A restart in between takes nothing out of service."""
    world.registry.add(retrained[0])
    with world.serving() as client:
        assert version(client) == V1
    world.registry.point("champion", V2)
    world.features.describe_error = StoreUnavailable("away")
    with world.serving() as client:
        assert client.predict_features(GIVEN).model_version == V1
        assert f"{V2} is not served: no features: away" in last_error(client)
        assert f"{V1} goes on being served" in last_error(client)
        world.features.describe_error = None
        wait_until(lambda: version(client) == V2)
        assert last_error(client) == ""


def test_what_was_served_before_is_refused_once_its_features_are_known_not_to_fit(world: World) -> None:
    with world.serving() as client:
        assert version(client) == V1
    world.features.definition.projections[0].features[2].type = types.VALUE_TYPE_STRING
    with world.serving(wait=False) as client:
        wait_until(lambda: "wind is STRING" in last_error(client))
        assert version(client) == ""


def test_another_signature_of_the_same_bytes_is_not_what_was_served(world: World, trained: Trained) -> None:
    with world.serving() as client:
        assert version(client) == V1
    changed = signature()
    changed.inputs[2].feature_reference = "weather:wind"
    world.registry.versions[V1].message.signature.CopyFrom(changed)
    world.features.describe_error = StoreUnavailable("away")
    with world.serving() as client:
        wait_until(lambda: f"{V1} is not served" in last_error(client))
        assert client.get_model().signature.inputs[2].feature_reference == "stats:wind"


def test_the_registry_may_go_away_while_serving(world: World, retrained: Trained) -> None:
    world.registry.add(retrained[0])
    with world.serving() as client:
        world.registry.error = DatabaseUnavailable("the database is away")
        world.registry.point("champion", V2)
        for _ in range(20):
            assert client.predict_features(GIVEN).model_version == V1
        world.registry.error = None
        wait_until(lambda: version(client) == V2)


def test_what_was_served_last_is_served_while_the_registry_is_away(world: World, trained: Trained) -> None:
    with world.serving() as client:
        assert version(client) == V1
    with world.serving(registry_address="127.0.0.1:1") as client:
        reply = client.predict(KEYS, request_data=SENT)
        assert reply.model_version == V1
        assert reply.outputs["probability"].to_pylist() == trained[1].predict(MATRIX).tolist()
        assert "127.0.0.1:1" in last_error(client)
        assert f"{V1} goes on being served" in last_error(client)


def test_what_was_served_last_is_served_while_the_registry_hangs(world: World) -> None:
    """Its process is stopped, or packets to it are dropped: connections succeed and nothing answers."""
    with world.serving() as client:
        assert version(client) == V1
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with world.serving(registry_address=address, registry_timeout=0.3) as client:
            assert client.predict(KEYS, request_data=SENT).model_version == V1


@pytest.mark.parametrize("kind", [DatabaseUnavailable, DeadlineExceeded, Internal])
def test_what_was_served_last_is_served_while_the_registry_fails(
    world: World, kind: type[PlumblineError]
) -> None:
    with world.serving() as client:
        assert version(client) == V1
    world.registry.error = kind("out of order")
    with world.serving() as client:
        assert client.predict(KEYS, request_data=SENT).model_version == V1


def test_a_server_that_never_served_waits_for_the_registry(world: World) -> None:
    with world.serving(wait=False, registry_address="127.0.0.1:1") as client:
        wait_until(lambda: "127.0.0.1:1" in last_error(client))
        with pytest.raises(errors.ModelNotLoaded):
            client.predict_features(GIVEN)


def test_a_registry_that_comes_late_is_found(world: World, trained: Trained) -> None:
    late = FakeRegistry()
    late.point("champion", late.add(trained[0]))
    with listening(FakeRegistry()) as address:
        pass  # a port that was free a moment ago
    with world.serving(wait=False, registry_address=address) as client:
        wait_until(lambda: last_error(client) != "")
        with listening(late, int(address.rpartition(":")[2])):
            wait_until(lambda: version(client) == V1)


def test_a_damaged_cache_is_fetched_anew(world: World) -> None:
    with world.serving():
        pass
    (blob,) = (world.cache / "blobs").iterdir()
    blob.write_bytes(blob.read_bytes()[:-10])
    with world.serving() as client:
        assert client.predict_features(GIVEN).model_version == V1
    assert world.registry.downloads == [V1, V1]


def test_a_sound_cache_is_not_fetched_anew(world: World) -> None:
    for _ in range(2):
        with world.serving() as client:
            assert client.predict_features(GIVEN).model_version == V1
    assert world.registry.downloads == [V1]


def test_a_damaged_cache_is_never_served_while_the_registry_is_away(world: World) -> None:
    with world.serving():
        pass
    (blob,) = (world.cache / "blobs").iterdir()
    blob.write_bytes(blob.read_bytes()[:-10])
    with world.serving(wait=False, registry_address="127.0.0.1:1") as client:
        wait_until(lambda: "cannot be used" in last_error(client))
        assert version(client) == ""


def test_a_note_that_cannot_be_read_counts_as_none(world: World) -> None:
    with world.serving():
        pass
    note: Path = world.cache / "served" / "delay@champion.json"
    assert json.loads(note.read_text())["name"] == V1
    note.write_text("{")
    with world.serving(wait=False, registry_address="127.0.0.1:1") as client:
        wait_until(lambda: last_error(client) != "")
        assert version(client) == ""


def test_old_models_leave_the_disk(world: World) -> None:
    def blobs() -> set[str]:
        return {path.name for path in (world.cache / "blobs").iterdir()}

    with world.serving() as client:
        for seed in range(7):
            name = world.registry.add(train(seed + 10)[0])
            world.registry.point("champion", name)
            wait_until(lambda: version(client) == name)  # noqa: B023
        newest = world.registry.versions[name].message.files[0].sha256
        assert newest in blobs()
        assert len(blobs()) == 5  # the one served and four to go back to


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name in ("plumbline.models", "plumbline.watcher")
    ]


def test_a_silent_registry_is_told_once_and_measured(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    telemetry = build_telemetry("test")

    def sample(name: str, **labels: str) -> float:
        value = telemetry.metrics.registry.get_sample_value(name, labels)
        assert value is not None
        return value

    def answered() -> float:
        return sample("plumbline_registry_last_answer_timestamp_seconds")

    def refused() -> float:
        return sample("plumbline_model_refused", model="models/delay/aliases/champion")

    with world.serving(telemetry=telemetry) as client:
        assert refused() == 0
        before = answered()
        assert abs(before - time.time()) < 60
        wait_until(lambda: answered() > before, what="each answer is noted")
        world.registry.error = DatabaseUnavailable("away, attempt 1")
        wait_until(lambda: "the registry cannot be reached since 20" in last_error(client))
        assert f"away, attempt 1; {V1} goes on being served" in last_error(client)
        before, polls = answered(), world.registry.resolved
        world.registry.error = DatabaseUnavailable("away, in other words")
        wait_until(lambda: world.registry.resolved > polls + 5, what="some more polls")
        assert answered() == before
        assert refused() == 0
        assert len(warnings_of(caplog)) == 1
        world.registry.error = None
        wait_until(lambda: last_error(client) == "")
        assert answered() > before
        assert len(warnings_of(caplog)) == 1
        assert sum("the registry answers again" in record.getMessage() for record in caplog.records) == 1
    telemetry.shutdown()


def test_a_refused_version_is_told_once_and_measured(
    world: World, retrained: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry = build_telemetry("test")

    def refused() -> float | None:
        name = {"model": "models/delay/aliases/champion"}
        return telemetry.metrics.registry.get_sample_value("plumbline_model_refused", name)

    world.registry.add(retrained[0])
    with world.serving(telemetry=telemetry) as client:
        world.registry.download_error = BlobCorrupt("the stored bytes changed")
        world.registry.point("champion", V2)
        wait_until(lambda: "the stored bytes changed" in last_error(client))
        assert refused() == 1
        polls = world.registry.resolved
        wait_until(lambda: world.registry.resolved > polls + 5, what="some more polls")
        assert len(warnings_of(caplog)) == 1
        world.registry.error = DatabaseUnavailable("away")
        wait_until(lambda: "the registry cannot be reached since" in last_error(client))
        assert refused() == 1
        world.registry.error = None
        wait_until(lambda: "the stored bytes changed" in last_error(client), what="the reason is back")
        world.registry.download_error = None
        wait_until(lambda: version(client) == V2)
        assert (last_error(client), refused()) == ("", 0)
    telemetry.shutdown()


def test_a_failing_download_is_told_and_tried_again(world: World, retrained: Trained) -> None:
    world.registry.add(retrained[0])
    with world.serving() as client:
        facts = {"sha256": "0" * 64, "actual": "1" * 64}
        world.registry.download_error = BlobCorrupt("the stored bytes changed", metadata=facts)
        world.registry.point("champion", V2)
        wait_until(lambda: "the stored bytes changed" in last_error(client))
        assert version(client) == V1
        world.registry.download_error = None
        wait_until(lambda: version(client) == V2)


def test_features_that_are_down_when_a_version_comes_delay_it(world: World, retrained: Trained) -> None:
    world.registry.add(retrained[0])
    with world.serving() as client:
        world.features.describe_error = StoreUnavailable("away")
        world.registry.point("champion", V2)
        wait_until(lambda: "no features: away" in last_error(client))
        assert client.predict_features(GIVEN).model_version == V1
        world.features.describe_error = None
        wait_until(lambda: version(client) == V2)
