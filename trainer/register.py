"""Evidence: what was trained, on what, by which code, and how good it is, told to the registry."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from plumbline.errors import PlumblineError
from plumbline.registry.errors import ModelExists, ModelNotFound
from plumbline.registry.v1 import resources_pb2 as res
from trainer import codec
from trainer.config import TrainingConfig
from trainer.domain import CodeRevision, Dataset, Environment, Evaluated, Registered, Signature
from trainer.errors import TrainerError
from trainer.lease import Lease
from trainer.ports import Registry, Reporter

MODEL_FILE = "model.txt"

# The registry's limits for one text.
_LONGEST_VALUE = 5_000
_LONGEST_ERROR = 4_000

# A run of the same thing still RUNNING after a day was probably killed; the newest runs are looked at.
_FORGOTTEN_SECONDS = 24 * 3600
_NEWEST_RUNS = 500


class RecordedRun:
    """A run that the registry knows from its first moment; in a `with`, it ends with it.

    Until `keep`, any error, and Ctrl-C, ends it FAILED with the reason and archives the version it had
    begun: a run that failed leaves no READY version. From `keep` on there is a model that stays, so the run
    ends FINISHED whatever happens; tags tell what became of the alias:

    promotion.alias    models/{model}/aliases/{alias}
    promotion.outcome  "moved", "kept" (where it was), or "failed": no decision was reached
    promotion.reason   why, with the values compared, or the error

    Meanwhile its lease is renewed: of a process that is killed the registry hears no more, and gives the run
    up as FAILED.
    """

    def __init__(self, registry: Registry, reporter: Reporter, name: str, lease: timedelta) -> None:
        self._registry, self._reporter = registry, reporter
        self.name = name
        self._lease = Lease(registry, reporter, name, lease)
        self._version = ""
        self._alias = ""
        self._decision: dict[str, str] = {}
        self._ended = False

    def __enter__(self) -> Self:
        self._lease.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lease.end()
        if self._ended or kind is None:
            return
        why = (f"{kind.__name__}: {error}" if str(error) else kind.__name__)[:_LONGEST_ERROR]
        if self._alias:
            self._end_kept(why)
        else:
            self._end_failed(why)

    def _end_kept(self, why: str) -> None:
        try:
            if not self._decision:
                self._decision = _decision(self._alias, "failed", why)
            self._log(self._decision)
            self.finish()
        except PlumblineError as second:
            self._reporter.warning(f"{self.name} could not be marked as finished: {second}")

    def _end_failed(self, why: str) -> None:
        try:
            if self._version:
                self._registry.archive_version(self._version)
        except PlumblineError as second:
            self._reporter.warning(f"{self._version} could not be archived: {second}")
        try:
            self._registry.finish_run(self.name, error=why)
        except PlumblineError as second:
            self._reporter.warning(f"{self.name} could not be marked as failed: {second}")

    def began(self, version: str) -> None:
        """The run began to make this version."""
        self._version = version

    def keep(self, alias: str) -> None:
        """The version is READY and all is told about it: nothing of it is taken back any more. What is
        left to decide is who holds this alias."""
        self._alias = alias

    def decided(self, moved: bool, reason: str) -> None:
        """Whether the alias moved to the version, and why."""
        self._decision = _decision(self._alias, "moved" if moved else "kept", reason)
        self._log(self._decision)

    def finish(self) -> None:
        """FINISHED: nothing can be added any more."""
        self._lease.end()
        self._registry.finish_run(self.name)
        self._ended = True

    def _log(self, tags: Mapping[str, str]) -> None:
        self._registry.log_run(self.name, metrics={}, datasets=[], tags=tags)


def start_run(
    registry: Registry,
    reporter: Reporter,
    config: TrainingConfig,
    code: CodeRevision,
    environment: Environment,
    lease: timedelta,
) -> RecordedRun:
    """Tells the registry that training begins, and with what. lease: see `RecordedRun`."""
    started = registry.start_run(
        codec.run(
            display_name=f"train {config.model}",
            parameters=flatten(config.model_dump(mode="json")),
            seed=config.training.seed,
            code=code,
            environment=environment,
            tags={"model": config.model, "objective": config.training.objective},
            config=config.as_yaml(),
        ),
        lease=lease,
    )
    _warn_of_forgotten(registry, reporter, started)
    return RecordedRun(registry, reporter, started.name, lease)


def _warn_of_forgotten(registry: Registry, reporter: Reporter, started: res.TrainingRun) -> None:
    """Names the runs of the same thing by the same user that never ended: their processes were killed. Those
    with a lease end by themselves."""
    before = started.start_time.seconds - _FORGOTTEN_SECONDS
    for run in islice(registry.list_runs(), _NEWEST_RUNS):
        same = (run.display_name, run.actor) == (started.display_name, started.actor)
        left = run.state == res.RUN_STATE_RUNNING and not run.HasField("lease_expire_time")
        if same and left and run.start_time.seconds < before:
            reporter.warning(
                f"{run.name} has been RUNNING since {run.start_time.ToJsonString()}; if its process is gone, "
                f'close it: plumbline runs fail {run.name} --reason "…"'
            )


def register(
    registry: Registry,
    run: RecordedRun,
    config: TrainingConfig,
    dataset: Dataset,
    recipe: str,
    signature: Signature,
    files: Mapping[str, str],
    evaluated: Sequence[Evaluated],
) -> Registered:
    """A READY version with its files, signature, links and metrics, which the run keeps from then on.

    recipe: of the dataset. files: text by path. evaluated: the model itself comes first, baselines after it;
    the metrics of all are logged with the run, those of the model are kept with the version.

    Evaluations are of READY versions, so a process killed right after the version became READY leaves it
    with fewer than two. They are not lost: the run has had them since before the version was begun, and
    they are among the version's files. The alias is moved only later, by whoever compares versions.
    """
    recorded = registry.record_dataset(codec.dataset(dataset, recipe))
    registry.log_run(
        run.name, metrics=run_metrics(evaluated), datasets=[recorded.name], tags={"model": config.model}
    )
    _ensure_model(registry, config)
    service = signature.service.definition
    version = registry.create_version(
        config.model,
        signature=codec.signature(signature),
        run=run.name,
        datasets=[recorded.name],
        description=config.description,
        # The tag by which Feast's own tools find the feature service of a model.
        tags={"objective": config.training.objective, "feast.feature_service": service.name},
    )
    run.began(version.name)
    for path, source in _written(files):
        registry.upload_file(version.name, source, path=path, media_type=_media_type(path))
    ready = registry.finalize_version(version.name)
    model = evaluated[0]
    for split, metrics in (("validation", model.valid), ("test", model.test)):
        registry.record_evaluation(version.name, codec.evaluation(recorded.name, split, metrics))
    run.keep(f"models/{config.model}/aliases/{config.promotion.alias}")
    return Registered(run.name, version.name, version.version, ready.manifest_digest)


def run_metrics(evaluated: Sequence[Evaluated]) -> dict[str, float]:
    """ "test.auc" of the model, "schedule_only.test.auc" of a baseline."""
    named: dict[str, float] = {}
    for place, item in enumerate(evaluated):
        prefix = "" if place == 0 else f"{item.name}."
        for split, metrics in (("validation", item.valid), ("test", item.test)):
            named |= {f"{prefix}{split}.{name}": value for name, value in metrics.items()}
    return named


def _decision(alias: str, outcome: str, reason: str) -> dict[str, str]:
    return {
        "promotion.alias": alias,
        "promotion.outcome": outcome,
        "promotion.reason": reason[:_LONGEST_VALUE],
    }


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """ "training.seed": "7" for each leaf of nested mappings; lists as JSON, None left out."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            flat[f"{prefix}{key}"] = text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
    return flat


def _ensure_model(registry: Registry, config: TrainingConfig) -> None:
    try:
        model = registry.get_model(config.model)
    except ModelNotFound:
        try:
            registry.create_model(config.model, description=config.description)
        except ModelExists:
            # Another job made it in the meantime.
            return
    else:
        if model.HasField("archive_time"):
            raise TrainerError(f"the model {config.model!r} is archived; train under another name")


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="plumbline-trainer-") as folder:
        yield Path(folder)


def _written(files: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    with _scratch() as folder:
        for number, (path, text) in enumerate(files.items()):
            source = folder / str(number)
            source.write_text(text, encoding="utf-8")
            yield path, source


def _media_type(path: str) -> str:
    return "application/json" if path.endswith(".json") else "text/plain"
