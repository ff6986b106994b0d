"""What runs where, from when to when; leases that run out, of deployments and of runs."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from plumbline.registry.errors import (
    DeploymentEnded,
    DeploymentNotFound,
    RunEnded,
    VersionNotFound,
    VersionNotReady,
)
from registry_service import deployments, models, runs, states
from registry_service.audit import digest
from registry_service.commands import FinishRun, RenewRun, StartRun
from registry_service.commands_governance import EndDeployment, RenewDeployment
from registry_service.domain import Deployment, RunState, TrainingRun, VersionRef
from registry_service.events import AuditEvent
from registry_service.expiry import ACTOR, expire
from registry_service.filtering.search import Search
from registry_service.repository.database import SqlDatabase
from tests.contract.registry_service.conftest import TickingClock
from tests.contract.registry_service.governance_desk import GovernanceDesk

MINUTE = timedelta(minutes=1)


@pytest.fixture
def desk(engine: Engine, clock: TickingClock) -> GovernanceDesk:
    desk = GovernanceDesk(SqlDatabase(engine, busy_seconds=20), clock)
    desk.model()
    return desk


def events(desk: GovernanceDesk) -> list[AuditEvent]:
    with desk.database.read() as transaction:
        return list(transaction.audit.events(after=0, limit=999))


def state_digest(desk: GovernanceDesk, deployment: Deployment) -> str:
    model = desk.ask(models.get, deployment.version.model)
    return digest(states.of_deployment(model.id, deployment))


def started(desk: GovernanceDesk, lease: timedelta | None) -> TrainingRun:
    return desk.do(runs.start, StartRun("nightly", {}, {}, {}, 7, None, "", (), lease=lease))


def test_a_deployment_is_recorded_and_ended(desk: GovernanceDesk) -> None:
    version = desk.ready()
    running = desk.deploy(version.ref)
    assert (running.version, running.environment, running.target) == (version.ref, "production", "host-1")
    assert (running.alias, running.attributes, running.actor) == ("champion", {"zone": "a"}, "ann")
    assert (running.end_time, running.lease_expire_time, running.end_reason) == (None, None, "")
    assert running.live(desk.clock() + timedelta(days=999))
    assert desk.ask(deployments.get, running.name) == running
    event = events(desk)[-1]
    assert (event.action, event.subject.name) == ("RecordDeployment", f"deployments/{running.name}")
    assert event.model == "models/flights"
    assert json.loads(event.details)["version"] == str(version.ref)
    assert event.state_digest == state_digest(desk, running)

    ended = desk.end(running)
    assert ended.end_time is not None
    assert ended.end_time > running.start_time
    assert ended.end_reason == "replaced"
    assert not ended.live(ended.end_time)
    event = events(desk)[-1]
    assert (event.action, json.loads(event.details)["reason"]) == ("EndDeployment", "replaced")
    assert event.state_digest == state_digest(desk, desk.ask(deployments.get, running.name))
    for again in (lambda: desk.end(ended), lambda: desk.renew(ended, MINUTE)):
        with pytest.raises(DeploymentEnded) as caught:
            again()
        assert caught.value.metadata == {"deployment": f"deployments/{running.name}"}


def test_only_ready_versions_run(desk: GovernanceDesk) -> None:
    with pytest.raises(VersionNotReady):
        desk.deploy(desk.draft().ref)
    with pytest.raises(VersionNotFound):
        desk.deploy(VersionRef("flights", 9))


def test_what_nobody_recorded(desk: GovernanceDesk) -> None:
    name = "0" * 32
    for asked in (
        lambda: desk.ask(deployments.get, name),
        lambda: desk.do(deployments.end, EndDeployment(name, "")),
        lambda: desk.do(deployments.renew, RenewDeployment(name, MINUTE)),
    ):
        with pytest.raises(DeploymentNotFound) as caught:
            asked()
        assert caught.value.metadata == {"deployment": f"deployments/{name}"}


def test_lists_go_newest_first_page_by_page(desk: GovernanceDesk) -> None:
    version = desk.ready()
    made = [desk.deploy(version.ref) for _ in range(5)]
    page = desk.ask(deployments.search, Search(), 2)
    assert [hit.item for hit in page] == made[:2:-1]
    desk.deploy(version.ref)
    rest = desk.ask(deployments.search, Search(after=page[-1].place), 9)
    assert [hit.item for hit in rest] == made[2::-1]


def test_a_lease_is_renewed_without_an_event(desk: GovernanceDesk, clock: TickingClock) -> None:
    running = desk.deploy(desk.ready().ref, lease=MINUTE)
    assert running.lease_expire_time == running.start_time + MINUTE
    told = len(events(desk))
    renewed = desk.renew(running, 2 * MINUTE)
    assert renewed.lease_expire_time == clock.now + 2 * MINUTE
    assert renewed.revision > running.revision
    assert len(events(desk)) == told
    assert state_digest(desk, renewed) == events(desk)[-1].state_digest


def test_who_is_not_heard_of_has_ended_when_the_lease_did(desk: GovernanceDesk, clock: TickingClock) -> None:
    version = desk.ready()
    silent, alive, unleased = (
        desk.deploy(version.ref, lease=MINUTE),
        desk.deploy(version.ref, lease=MINUTE),
        desk.deploy(version.ref),
    )
    run, long_run = started(desk, MINUTE), started(desk, 5 * MINUTE)
    assert desk.do(expire, actor=ACTOR) == 0
    clock.now += MINUTE - timedelta(seconds=1)
    desk.renew(alive, MINUTE)
    clock.now += timedelta(seconds=1)
    assert silent.lease_expire_time is not None
    assert not silent.live(clock.now)
    told = len(events(desk))
    assert desk.do(expire, actor=ACTOR) == 2
    ended = desk.ask(deployments.get, silent.name)
    assert ended.end_time == silent.lease_expire_time
    assert ended.end_reason.startswith("nothing was heard of it before its lease ended at 2026-03-01T12:01")
    for running in (alive, unleased):
        assert desk.ask(deployments.get, running.name).end_time is None
    assert desk.ask(runs.get, run.name).state is RunState.FAILED
    assert desk.ask(runs.get, long_run.name).state is RunState.RUNNING
    of_run, of_deployment = events(desk)[told:]
    assert (of_run.action, of_run.actor) == ("ExpireRun", "registry")
    assert (of_deployment.action, of_deployment.actor) == ("ExpireDeployment", "registry")
    assert of_deployment.state_digest == state_digest(desk, ended)
    assert desk.do(expire, actor=ACTOR) == 0


def test_a_renewal_that_comes_before_anybody_looked_is_not_too_late(
    desk: GovernanceDesk, clock: TickingClock
) -> None:
    running, run = desk.deploy(desk.ready().ref, lease=MINUTE), started(desk, MINUTE)
    clock.now += 2 * MINUTE
    assert desk.renew(running, MINUTE).live(clock.now)
    desk.do(runs.renew, RenewRun(run.name, MINUTE))
    assert desk.do(expire, actor=ACTOR) == 0


def test_many_leases_end_in_batches(desk: GovernanceDesk, clock: TickingClock) -> None:
    version = desk.ready()
    made = [desk.deploy(version.ref, lease=MINUTE + timedelta(seconds=n)) for n in range(3)]
    clock.now += 2 * MINUTE
    assert [desk.do(deployments.expire, 2, actor=ACTOR) for _ in range(3)] == [2, 1, 0]
    ends = [desk.ask(deployments.get, running.name).end_time for running in made]
    assert ends == [running.lease_expire_time for running in made]


def test_what_has_ended_has_no_lease_to_run_out(desk: GovernanceDesk, clock: TickingClock) -> None:
    running, run = desk.deploy(desk.ready().ref, lease=MINUTE), started(desk, MINUTE)
    assert desk.end(running).lease_expire_time is None
    done = desk.do(runs.finish, FinishRun(run.name, RunState.FINISHED, ""))
    assert done.lease_expire_time is None
    clock.now += 2 * MINUTE
    assert desk.do(expire, actor=ACTOR) == 0
    with pytest.raises(RunEnded):
        desk.do(runs.renew, RenewRun(run.name, MINUTE))


def test_a_clock_set_back_ends_nothing_before_its_start(desk: GovernanceDesk, clock: TickingClock) -> None:
    running = desk.deploy(desk.ready().ref)
    clock.now -= timedelta(hours=1)
    assert desk.end(running).end_time == running.start_time
