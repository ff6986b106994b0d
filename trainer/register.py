"""Evidence: what was trained, on what, by which code, and how good it is, told to the registry."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from plumbline.errors import PlumblineError
from plumbline.registry.errors import ModelExists, ModelNotFound
from trainer import codec
from trainer.config import TrainingConfig
from trainer.domain import CodeRevision, Dataset, Environment, Evaluated, Registered, Signature
from trainer.errors import TrainerError
from trainer.ports import Registry, Reporter

MODEL_FILE = "model.txt"

# The registry's limits for one text.
_LONGEST_VALUE = 5_000
_LONGEST_ERROR = 4_000


class RecordedRun:
    """A run that the registry knows from its first moment: in a `with`, it ends FINISHED only by `finish`.

    Any error on the way, and Ctrl-C, ends it FAILED with the reason, and archives the version it had begun:
    a run that failed leaves no READY version. A process that is killed leaves its run RUNNING.
    """

    def __init__(self, registry: Registry, reporter: Reporter, name: str) -> None:
        self._registry, self._reporter = registry, reporter
        self.name = name
        self._version = ""
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ended or kind is None:
            return
        why = f"{kind.__name__}: {error}" if str(error) else kind.__name__
        try:
            if self._version:
                self._registry.archive_version(self._version)
        except PlumblineError as second:
            self._reporter.warning(f"{self._version} could not be archived: {second}")
        try:
            self._registry.finish_run(self.name, error=why[:_LONGEST_ERROR])
        except PlumblineError as second:
            self._reporter.warning(f"{self.name} could not be marked as failed: {second}")

    def began(self, version: str) -> None:
        """The run began to make this version."""
        self._version = version

    def finish(self) -> None:
        """FINISHED: from here on nothing of it is taken back."""
        self._registry.finish_run(self.name)
        self._ended = True


def start_run(
    registry: Registry,
    reporter: Reporter,
    config: TrainingConfig,
    code: CodeRevision,
    environment: Environment,
) -> RecordedRun:
    """Tells the registry that training begins, and with what."""
    started = registry.start_run(
        codec.run(
            display_name=f"train {config.model}",
            parameters=flatten(config.model_dump(mode="json")),
            seed=config.training.seed,
            code=code,
            environment=environment,
            tags={"model": config.model, "objective": config.training.objective},
        )
    )
    return RecordedRun(registry, reporter, started.name)


def register(
    registry: Registry,
    run: RecordedRun,
    config: TrainingConfig,
    dataset: Dataset,
    signature: Signature,
    files: Mapping[str, str],
    evaluated: Sequence[Evaluated],
) -> Registered:
    """A READY version with its files, signature, links and metrics; the run is FINISHED after it.

    files: text by path. evaluated: the model itself comes first, baselines after it; the metrics of all are
    logged with the run, those of the model are kept with the version.
    """
    recorded = registry.record_dataset(codec.dataset(dataset))
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
    run.finish()
    return Registered(run.name, version.name, version.version, ready.manifest_digest)


def run_metrics(evaluated: Sequence[Evaluated]) -> dict[str, float]:
    """ "test.auc" of the model, "schedule_only.test.auc" of a baseline."""
    named: dict[str, float] = {}
    for place, item in enumerate(evaluated):
        prefix = "" if place == 0 else f"{item.name}."
        for split, metrics in (("validation", item.valid), ("test", item.test)):
            named |= {f"{prefix}{split}.{name}": value for name, value in metrics.items()}
    return named


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
