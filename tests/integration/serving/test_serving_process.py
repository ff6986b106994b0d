"""The server as it is run: a process of its own, the real registry, HTTP and gRPC side by side."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from grpc_health.v1 import health_pb2

from plumbline.registry.client import RegistryClient
from registry_service.app import build as build_registry
from registry_service.settings import RegistrySettings
from tests.e2e.otlp import Collector, ReceivedSpan, collector
from tests.integration.serving.server import ServingProcess, environment, publish, serving_process
from tests.support import running_server, wait_until
from tests.unit.serving.fakes import FakeFeatures, listening, signature, train

NOON = datetime(2013, 11, 1, 12, tzinfo=UTC)
KEYS = {"origin": ["JFK", "LGA", "EWR"], "carrier": ["AA", "DL", "ZZ"]}
SENT = {"sched": [NOON] * 3, "hour": [7, 8, 9]}
BODY: dict[str, Any] = {
    "entities": KEYS,
    "request_data": {"sched": ["2013-11-01T12:00:00Z"] * 3, "hour": [7, 8, 9]},
    "return_features": True,
}
MATRIX = np.array([[12, 180, 7.5, 0, 7], [np.nan, 150, 3, 2, 8], [np.nan, np.nan, np.nan, np.nan, 9]])


@dataclass
class Suite:
    """A registry, features and a server between them; before: what the server said without a model."""

    folder: Path
    registry: RegistryClient
    registry_stack: ExitStack
    artifacts: Path
    features: FakeFeatures
    features_address: str
    server: ServingProcess
    before: dict[str, Any]
    collected: Collector

    def publish(self, text: str) -> str:
        """A READY version of models/delay; returns its name."""
        return publish(self.registry, self.folder, text, signature())

    def promote(self, version: str) -> None:
        """Points the champion at a version."""
        self.registry.set_alias("delay@champion", version, reason="a test")

    def served(self) -> str:
        """The version that answers now."""
        return self.server.client.list_models()[0].model_version

    def last_error(self) -> str:
        """Why no newer version is served."""
        return self.server.client.list_models()[0].last_error

    def prediction_span(self, trace_id: str) -> ReceivedSpan:
        """The span of the one HTTP prediction in a trace, once it is exported."""

        def spans() -> list[ReceivedSpan]:
            trace = self.collected.traces().get(trace_id, [])
            return [span for span in trace if span.name == "POST /predict"]

        wait_until(lambda: bool(spans()), what="the prediction's span is exported")
        (span,) = spans()
        return span

    def serve(self, text: str) -> str:
        """Publishes, promotes and waits until it answers; returns the version."""
        version = self.publish(text)
        self.promote(version)
        wait_until(lambda: self.served() == version, what=f"{version} is served")
        return version


@pytest.fixture(scope="module")
def models() -> dict[int, tuple[str, lightgbm.Booster]]:
    return {seed: train(seed) for seed in (1, 2)}


@pytest.fixture(scope="module")
def suite(
    tmp_path_factory: pytest.TempPathFactory, models: dict[int, tuple[str, lightgbm.Booster]]
) -> Iterator[Suite]:
    folder = tmp_path_factory.mktemp("serving")
    features = FakeFeatures(rows={("JFK", "AA"): (12.0, 180, 7.5), ("LGA", "DL"): (None, 150, 3.0)})
    settings = RegistrySettings(
        port=0,
        metrics_port=None,
        http_port=None,
        database_url=f"sqlite:///{folder}/registry.db",
        artifacts_dir=folder / "artifacts",
    )
    with ExitStack() as stack, ExitStack() as registry_stack:
        registry_address = registry_stack.enter_context(running_server(settings, build_registry))
        registry = stack.enter_context(RegistryClient(registry_address))
        features_address = stack.enter_context(listening(features))
        collected, endpoint = stack.enter_context(collector())
        server = stack.enter_context(
            serving_process(folder, registry_address, features_address, otlp_endpoint=endpoint)
        )
        before = {
            "health": server.health(),
            "readyz": server.http("/readyz")[0],
            "predict": server.predict(BODY),
            "models": list(server.client.list_models()),
        }
        suite = Suite(
            folder,
            registry,
            registry_stack,
            settings.artifacts_dir,
            features,
            features_address,
            server,
            before,
            collected,
        )
        suite.serve(models[1][0])
        yield suite


def test_a_server_without_a_model_lives_but_is_not_ready(suite: Suite) -> None:
    assert suite.before["health"] == health_pb2.HealthCheckResponse.NOT_SERVING
    assert suite.before["readyz"] == 503
    status, reply = suite.before["predict"]
    assert status == 503
    assert reply["error"]["reason"] == "MODEL_NOT_LOADED"
    assert [model.model_version for model in suite.before["models"]] == [""]
    wait_until(lambda: suite.server.health() == health_pb2.HealthCheckResponse.SERVING)
    assert suite.server.http("/readyz")[0] == 200


def test_http_and_grpc_answer_alike(suite: Suite, models: dict[int, tuple[str, lightgbm.Booster]]) -> None:
    version = suite.serve(models[1][0])
    over_grpc = suite.server.client.predict(KEYS, request_data=SENT, return_features=True)
    status, over_http = suite.server.predict(BODY)
    assert status == 200
    assert over_http["outputs"]["probability"] == models[1][1].predict(MATRIX).tolist()
    assert over_grpc.outputs.to_pydict() == over_http["outputs"]
    assert over_grpc.model_version == over_http["model_version"] == version
    assert over_grpc.model_sha256 == over_http["model_sha256"]
    assert over_grpc.definition_digest == over_http["definition_digest"]
    assert over_grpc.features is not None
    for name in over_grpc.features.values.column_names:
        assert over_http["features"][name] == {
            "values": over_grpc.features.values[name].to_pylist(),
            "statuses": over_grpc.features.status_names(name),
            "view": over_grpc.features.views[name],
        }


def test_http_errors_are_readable(suite: Suite) -> None:
    status, reply = suite.server.predict(BODY | {"request_data": {"hour": [7, 8, 9]}})
    assert status == 400
    assert reply["error"]["reason"] == "INPUT_MISSING"
    assert reply["error"]["metadata"] == {"column": "sched"}
    status, reply = suite.server.predict(BODY | {"model": "delay@other"})
    assert (status, reply["error"]["code"]) == (404, "NOT_FOUND")
    status, reply = suite.server.predict({"entites": {}})
    assert (status, reply["error"]["code"]) == (400, "INVALID_ARGUMENT")
    assert "entites" in reply["error"]["message"]


def test_the_openapi_page_documents_predict(suite: Suite) -> None:
    status, page = suite.server.http("/docs.json")
    assert status == 200
    document = json.loads(page)
    assert "/predict" in document["paths"]
    text = json.dumps(document["components"])
    for field in ("entities", "request_data", "prediction_ids", "model_sha256", "definition_digest"):
        assert field in text
    assert suite.server.http("/")[0] == 200


def test_metrics_of_both_transports_are_on_one_page(suite: Suite) -> None:
    def sample(name: str) -> float:
        page = suite.server.http("/metrics")[1].decode()
        return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(name))

    before = sample("plumbline_predictions_total")
    suite.server.client.predict(KEYS, request_data=SENT)
    suite.server.predict(BODY)
    assert sample("plumbline_predictions_total") == before + 6
    assert sample('grpc_server_handled_total{grpc_code="OK",grpc_method="Predict"') >= 1
    assert sample('bentoml_service_request_total{endpoint="/predict",http_response_code="200"') >= 1
    page = suite.server.http("/metrics")[1].decode()
    info = [line for line in page.splitlines() if line.startswith("plumbline_model_info{")]
    serving = [line for line in info if line.endswith(" 1.0")]
    assert len(serving) == 1
    assert f'model_version="{suite.served()}"' in serving[0]
    assert 'plumbline_model_refused{model="models/delay/aliases/champion"} 0.0' in page.splitlines()
    assert sample("plumbline_registry_last_answer_timestamp_seconds ") > 1e9


def test_an_http_caller_s_trace_goes_through_to_feature_service(suite: Suite) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    parent_id = "b7ad6b7169203331"
    status, _ = suite.server.predict(BODY, {"traceparent": f"00-{trace_id}-{parent_id}-01"})
    assert status == 200
    assert suite.features.traceparents[-1].split("-")[1] == trace_id
    # The span of the prediction is the caller's own child: nothing unexported is between them.
    assert suite.prediction_span(trace_id).parent_id == parent_id
    told = [line for line in suite.server.lines() if line["message"] == "predict OK"]
    assert told[-1]["trace_id"] == trace_id


def test_an_http_call_without_a_trace_begins_one_that_is_sampled(suite: Suite) -> None:
    assert suite.server.predict(BODY)[0] == 200
    _, trace_id, _, flags = suite.features.traceparents[-1].split("-")
    assert int(flags, 16) & 1  # the bit that says it is sampled
    assert suite.prediction_span(trace_id).parent_id == ""


def test_the_serving_process_imports_neither_feast_nor_sqlalchemy(suite: Suite) -> None:
    imported = {
        line.rpartition("|")[2].strip()
        for line in suite.server.log.read_text().splitlines()
        if line.startswith("import time:")
    }
    assert {"bentoml", "lightgbm"} <= imported
    assert not {"feast", "sqlalchemy", "torch"} & imported


def test_a_moved_alias_is_followed_under_load_without_a_failure(
    suite: Suite, models: dict[int, tuple[str, lightgbm.Booster]]
) -> None:
    versions = {suite.publish(models[seed][0]): models[seed][1].predict(MATRIX).tolist() for seed in (1, 2)}
    first = next(iter(versions))
    suite.promote(first)
    wait_until(lambda: suite.served() == first)
    stop = threading.Event()

    def ask(over_http: bool) -> set[str]:
        seen = set()
        while not stop.is_set():
            if over_http:
                status, reply = suite.server.predict(BODY)
                assert status == 200, reply
                version, scores = reply["model_version"], reply["outputs"]["probability"]
            else:
                answer = suite.server.client.predict(KEYS, request_data=SENT)
                version, scores = answer.model_version, answer.outputs["probability"].to_pylist()
            assert scores == versions[version]
            seen.add(version)
        return seen

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, over_http) for over_http in (True, False, True, False)]
        try:
            for version in [*reversed(versions), *versions]:
                suite.promote(version)
                wait_until(lambda: suite.served() == version)  # noqa: B023
        finally:
            stop.set()
        assert set().union(*(future.result(60) for future in asking)) == set(versions)


def test_bytes_altered_on_the_registry_s_disk_are_not_served(suite: Suite) -> None:
    kept = suite.served()
    altered = suite.publish(train(3)[0])
    sha256 = suite.registry.get_version(altered).files[0].sha256
    (blob,) = (path for path in suite.artifacts.rglob(f"*{sha256[4:]}*") if path.is_file())
    blob.chmod(0o644)
    whole = blob.read_bytes()
    blob.write_bytes(whole.replace(b"leaf_value=", b"leaf_value=9", 1)[: len(whole)])
    suite.promote(altered)
    wait_until(lambda: altered in suite.last_error())
    assert "sha256" in suite.last_error()
    assert suite.server.client.predict(KEYS, request_data=SENT).model_version == kept
    suite.promote(kept)
    wait_until(lambda: suite.last_error() == "")


@pytest.mark.parametrize(
    ("kind", "variable"),
    [("http_port", "PLUMBLINE_SERVING_HTTP_PORT"), ("grpc_port", "PLUMBLINE_SERVING_PORT")],
)
def test_a_taken_port_is_told(suite: Suite, tmp_path: Path, kind: str, variable: str) -> None:
    port = getattr(suite.server, kind)
    env = environment(tmp_path, "127.0.0.1:1", "127.0.0.1:1", port="0", http_port="0") | {variable: str(port)}
    done = subprocess.run([sys.executable, "-m", "serving"], env=env, capture_output=True, timeout=60)
    assert done.returncode == 2
    message = done.stderr.decode()
    assert f"127.0.0.1:{port}" in message
    assert f"Set {variable}" in message
    assert "Traceback" not in message


def test_bad_settings_are_told(tmp_path: Path) -> None:
    env = environment(tmp_path, "127.0.0.1:1", "127.0.0.1:1", models="delay")
    done = subprocess.run([sys.executable, "-m", "serving"], env=env, capture_output=True, timeout=60)
    assert done.returncode == 2
    assert "MODELS" in done.stderr.decode()
    assert "model@alias" in done.stderr.decode()


def test_without_the_registry_the_server_goes_on_starts_again_and_drains(suite: Suite) -> None:
    """The registry goes down; the server goes on. Restarted, it serves what it served last. Asked to
    stop, it answers what is in flight first."""
    kept = suite.served()
    suite.registry_stack.close()
    for _ in range(5):
        assert suite.server.client.predict(KEYS, request_data=SENT).model_version == kept
    suite.server.process.terminate()
    assert suite.server.process.wait(30) == 0
    with serving_process(suite.folder, suite.registry.target, suite.features_address) as server:
        wait_until(lambda: server.answers("/readyz", 200), timeout=60)
        assert server.client.get_model().model_version == kept

        suite.features.delay = threading.Event()
        asked = len(suite.features.requests)
        with ThreadPoolExecutor(2) as pool:
            over_grpc = pool.submit(server.client.predict, KEYS, request_data=SENT)
            over_http = pool.submit(server.predict, BODY)
            wait_until(lambda: len(suite.features.requests) == asked + 2, what="both calls are in flight")
            server.process.terminate()
            wait_until(lambda: any(line["message"] == "serving drains" for line in server.lines()))
            assert server.process.poll() is None
            suite.features.delay.set()
            assert over_grpc.result(30).model_version == kept
            assert over_http.result(30)[0] == 200
        assert server.process.wait(30) == 0
        assert list((suite.folder / "models" / "metrics").iterdir()) == []
    suite.features.delay = None
