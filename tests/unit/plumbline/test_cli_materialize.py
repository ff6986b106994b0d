"""`plumbline features materialize`: one line for each view that is done, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from plumbline.cli.main import app
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from plumbline.features.v1 import feature_retrieval_service_pb2_grpc as pb_grpc


class Materializer(pb_grpc.FeatureRetrievalServiceServicer):
    """Brings two views online, one of them in two steps, or those that are asked for."""

    def Materialize(  # noqa: N802
        self, request: pb.MaterializeRequest, context: Any
    ) -> Iterator[pb.MaterializeResponse]:
        views = list(request.views) or ["weather", "planes"]
        if request.HasField("start_time"):
            views.append(request.start_time.ToJsonString())
        if request.HasField("end_time"):
            views.append(request.end_time.ToJsonString())
        if request.operation_id:
            views.append(request.operation_id)
        for done, view in enumerate(views, 1):
            yield pb.MaterializeResponse(view=view, rows_written=1_000, views_total=len(views))
            yield pb.MaterializeResponse(
                view=view,
                rows_written=2_500,
                rows_resumed=1_500 if request.operation_id == "again" else 0,
                view_finished=True,
                views_done=done,
                views_total=len(views),
            )


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    pb_grpc.add_FeatureRetrievalServiceServicer_to_server(Materializer(), server)
    monkeypatch.setenv("PLUMBLINE_FEATURES_ADDRESS", f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    server.start()
    yield
    server.stop(None).wait()


@pytest.mark.usefixtures("address")
def test_each_view_is_told_once_when_it_is_done() -> None:
    done = CliRunner().invoke(app, ["features", "materialize"])
    assert done.exit_code == 0
    lines = [line.split() for line in done.output.splitlines()]
    assert lines == [["weather", "2,500", "rows", "(1/2)"], ["planes", "2,500", "rows", "(2/2)"]]


@pytest.mark.usefixtures("address")
def test_views_can_be_named_and_programs_get_json() -> None:
    done = CliRunner().invoke(app, ["features", "materialize", "planes", "--json"])
    assert done.exit_code == 0
    assert json.loads(done.output) == [{"view": "planes", "rows_written": 2500, "rows_resumed": 0}]


@pytest.mark.usefixtures("address")
def test_a_run_that_was_interrupted_goes_on_by_its_id() -> None:
    done = CliRunner().invoke(app, ["features", "materialize", "planes", "--operation-id", "again"])
    first = " ".join(done.output.splitlines()[0].split())
    assert first == "planes 2,500 rows (1/2), 1,500 of them before"


@pytest.mark.usefixtures("address")
@pytest.mark.parametrize("text", ["2013-01-31T17:00:00", "2013-01-31T17:00:00Z", "2013-01-31T12:00:00-05:00"])
def test_a_start_can_be_given_and_is_utc_unless_it_says(text: str) -> None:
    done = CliRunner().invoke(app, ["features", "materialize", "planes", "--from", text, "--json"])
    assert [item["view"] for item in json.loads(done.output)] == ["planes", "2013-01-31T17:00:00Z"]


@pytest.mark.usefixtures("address")
def test_an_end_and_a_name_of_the_run_can_be_given() -> None:
    words = ["planes", "--to", "2013-02-01", "--operation-id", "night-1", "--json"]
    done = CliRunner().invoke(app, ["features", "materialize", *words])
    assert [item["view"] for item in json.loads(done.output)] == ["planes", "2013-02-01T00:00:00Z", "night-1"]


def test_a_start_that_is_no_time_is_wrong_usage() -> None:
    done = CliRunner().invoke(app, ["features", "materialize", "--from", "yesterday"])
    assert done.exit_code == 2
    assert "yesterday" in done.output


def test_nobody_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUMBLINE_FEATURES_ADDRESS", "127.0.0.1:1")
    done = CliRunner().invoke(app, ["features", "materialize"])
    assert done.exit_code == 3
