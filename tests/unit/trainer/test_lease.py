"""Signs of life of a run."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from plumbline.errors import Unavailable
from plumbline.registry.v1 import resources_pb2 as res
from tests.support import wait_until
from tests.unit.trainer.fakes import FakeRegistry, RecordingReporter
from trainer.lease import Lease

_SHORT = timedelta(milliseconds=15)


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def reporter() -> RecordingReporter:
    return RecordingReporter()


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "trainer-lease"]


def test_a_lease_moves_on_until_the_end(registry: FakeRegistry, reporter: RecordingReporter) -> None:
    run = registry.start_run(res.TrainingRun(), lease=_SHORT)
    first = run.lease_expire_time.ToDatetime()
    with Lease(registry, reporter, run.name, _SHORT) as lease:
        wait_until(lambda: run.lease_expire_time.ToDatetime() > first, what="a renewal")
        lease.end()
        assert _threads() == []
    assert reporter.warnings == []


def test_a_registry_that_is_away_is_told_of_once_and_asked_again(
    registry: FakeRegistry, reporter: RecordingReporter
) -> None:
    run = registry.start_run(res.TrainingRun(), lease=_SHORT)
    registry.fail_at, registry.failure = "renew_run", Unavailable("the registry went away")
    with Lease(registry, reporter, run.name, _SHORT):
        wait_until(lambda: len(registry.renewals) >= 4, what="four attempts")
        before = run.lease_expire_time.ToDatetime()
        registry.fail_at = ""
        wait_until(lambda: run.lease_expire_time.ToDatetime() > before, what="a renewal")
    assert reporter.warnings == ["runs/1 could not be renewed: the registry went away"]


def test_a_run_that_was_ended_is_left_alone(registry: FakeRegistry, reporter: RecordingReporter) -> None:
    run = registry.start_run(res.TrainingRun(), lease=_SHORT)
    run.state = res.RUN_STATE_FAILED
    with Lease(registry, reporter, run.name, _SHORT):
        wait_until(lambda: not _threads(), what="the end of the thread")
    assert registry.renewals == [run.name]
    assert reporter.warnings == []
