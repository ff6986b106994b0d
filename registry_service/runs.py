"""Use cases of training runs. Each function is one transaction of its caller's."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from plumbline.registry.errors import RunEnded
from registry_service import states
from registry_service.audit import record
from registry_service.commands import FinishRun, LogRun, RenewRun, StartRun
from registry_service.domain import Act, RunState, TrainingRun
from registry_service.filtering.search import Hit, Search
from registry_service.ports import Transaction
from registry_service.validation import MAX_METRICS, MAX_PARAMETERS, MAX_TAGS, Violations


def start(transaction: Transaction, act: Act, command: StartRun) -> TrainingRun:
    """A RUNNING run under a new id. Raises DatasetNotFound, RunNotFound (of the parent), ModelNotFound,
    VersionNotFound (of the versions it goes on from)."""
    run = transaction.runs.add(
        uuid.uuid4().hex,
        display_name=command.display_name,
        parameters=command.parameters,
        metrics=command.metrics,
        tags=command.tags,
        seed=command.seed,
        code=command.code,
        environment_digest=command.environment_digest,
        datasets=transaction.datasets.get_all(command.datasets),
        act=act,
        environment=command.environment,
        config=command.config,
        parent=transaction.runs.get(command.parent) if command.parent else None,
        base_versions=[transaction.versions.get(ref) for ref in command.base_versions],
        lease_expire_time=None if command.lease is None else act.time + command.lease,
    )
    return _recorded(transaction, act, "StartRun", run, {"display_name": run.display_name})


def get(transaction: Transaction, name: str) -> TrainingRun:
    """Raises RunNotFound."""
    return transaction.runs.get(name)


def search(transaction: Transaction, asked: Search, limit: int) -> list[Hit[TrainingRun]]:
    """A page of runs."""
    return transaction.runs.search(asked, limit)


def log(transaction: Transaction, act: Act, command: LogRun) -> TrainingRun:
    """Adds to a RUNNING run. A metric or tag logged again takes the new value; a parameter, being what
    the run was started with, must keep its own. Raises RunNotFound, RunEnded, DatasetNotFound,
    InvalidField."""
    run = transaction.runs.lock(command.run)
    _check_running(run)
    parameters = {**run.parameters, **command.parameters}
    metrics = {**run.metrics, **command.metrics}
    tags = {**run.tags, **command.tags}
    found = Violations()
    _check_unchanged(found, run.parameters, command.parameters)
    found.count("parameters", list(parameters), MAX_PARAMETERS)
    found.count("metrics", list(metrics), MAX_METRICS)
    found.count("tags", list(tags), MAX_TAGS)
    found.check()
    new = [digest for digest in dict.fromkeys(command.datasets) if digest not in run.datasets]
    logged = transaction.runs.log(
        run,
        parameters=parameters,
        metrics=metrics,
        tags=tags,
        datasets=transaction.datasets.get_all(new),
    )
    details = {
        "parameters": sorted(command.parameters),
        "metrics": dict(command.metrics),
        "tags": sorted(command.tags),
        "datasets": new,
    }
    return _recorded(transaction, act, "LogRun", logged, details)


def renew(transaction: Transaction, act: Act, command: RenewRun) -> TrainingRun:
    """Another lease, from now on; a sign of life, not a change. Raises RunNotFound, RunEnded."""
    run = transaction.runs.lock(command.run)
    _check_running(run)
    return transaction.runs.renew(run, act.time + command.lease)


def expire(transaction: Transaction, act: Act, limit: int) -> int:
    """RUNNING runs whose lease has ended become FAILED; how many, at most `limit`."""
    names = transaction.runs.expired(act.time, limit)
    for name in names:
        run = transaction.runs.lock(name)
        until = "" if run.lease_expire_time is None else run.lease_expire_time.isoformat()
        error = f"given up: nothing was heard of it before its lease ended at {until}"
        ended = transaction.runs.finish(run, RunState.FAILED, error, act.time)
        _recorded(transaction, act, "ExpireRun", ended, {"error": error})
    return len(names)


def finish(transaction: Transaction, act: Act, command: FinishRun) -> TrainingRun:
    """RUNNING → FINISHED or FAILED. Raises RunNotFound, RunEnded."""
    run = transaction.runs.lock(command.run)
    _check_running(run)
    ended = transaction.runs.finish(run, command.state or RunState.FAILED, command.error, act.time)
    details = {"state": ended.state.value} | ({"error": ended.error} if ended.error else {})
    return _recorded(transaction, act, "FinishRun", ended, details)


def _recorded(
    transaction: Transaction, act: Act, action: str, run: TrainingRun, details: Mapping[str, Any]
) -> TrainingRun:
    record(transaction, act, action, states.run_subject(run), details=details, state=states.of_run(run))
    return run


def _check_running(run: TrainingRun) -> None:
    if run.state is not RunState.RUNNING:
        raise RunEnded(
            f"runs/{run.name} is {run.state}; start a new run",
            metadata={"run": f"runs/{run.name}", "state": run.state.value},
        )


def _check_unchanged(found: Violations, before: Mapping[str, str], given: Mapping[str, str]) -> None:
    for key, value in given.items():
        if before.get(key, value) != value:
            found.add(f"parameters[{key}]", f"is {value!r}, but was logged as {before[key]!r} before")
