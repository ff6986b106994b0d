"""The job: features → checks → training → comparison with baselines → registration → promotion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import numpy as np

from trainer import checks, training
from trainer.config import Baseline, TrainingConfig
from trainer.domain import CodeRevision, Environment, Evaluated, Input, Metrics, Result, Signature
from trainer.entities import EntityFile
from trainer.errors import ConfigError
from trainer.evaluate import METRICS, Floats, evaluate
from trainer.matrix import Matrix, build_matrix, choose_inputs, learn_matrix
from trainer.ports import Features, Registry, Reporter
from trainer.promote import Candidate, Promoter
from trainer.recipe import recipe
from trainer.register import MODEL_FILE, RecordedRun, register, start_run
from trainer.snapshot import Snapshot, take_snapshot
from trainer.split import Split, split_rows
from trainer.steps import Steps


class Job:
    """One run of the job. `result` holds what was done so far, also after an error.

    registry: None for a dry run: rows are read, models trained and judged, and nothing is registered. lease:
    how long the registry may hear nothing of the run before it gives it up.
    """

    def __init__(
        self,
        config: TrainingConfig,
        features: Features,
        registry: Registry | None,
        steps: Steps,
        reporter: Reporter,
        code: CodeRevision,
        environment: Environment,
        lease: timedelta = timedelta(minutes=2),
    ) -> None:
        self._config, self._features, self._registry = config, features, registry
        self._steps, self._reporter = steps, reporter
        self._code, self._environment, self._lease = code, environment, lease
        self.result = Result(config.model)

    def run(self) -> Result:
        """Does it all. Raises TrainerError, or PlumblineError where a service refuses or is not there."""
        config, result = self._config, self.result
        entities = EntityFile(config.entity_rows)
        registry = self._registry
        if registry is None:
            run = None
        else:
            run = start_run(registry, self._reporter, config, self._code, self._environment, self._lease)
            result.run = run.name
        with run or nullcontext():
            snapshot = self._snapshot(entities)
            labels, split = self._split(snapshot)
            matrix = self._matrix(snapshot, split)
            parts = {name: labels[mask] for name, mask in split.parts().items()}
            trained = self._train(matrix, parts)
            if registry is None or run is None:
                result.outcome = "dry_run"
                return result
            self._register(registry, run, snapshot, matrix, trained)
            # Registered is registered: what goes wrong from here on takes nothing back.
            self._promote(registry, run, snapshot, split, labels)
            run.finish()
        result.outcome = "finished"
        return result

    def _snapshot(self, entities: EntityFile) -> Snapshot:
        with self._steps.step("features") as step:
            snapshot = take_snapshot(self._features, entities, self._config, self._reporter)
            step.rows_in, step.rows_out = entities.rows, snapshot.dataset.rows
            count = len(snapshot.summary.features)
            step.note = (
                f"{snapshot.dataset.rows:,} rows, {count} features, sha256 {snapshot.dataset.digest[:12]}"
            )
        self.result.dataset, self.result.snapshot = snapshot.dataset, str(snapshot.path)
        return snapshot

    def _split(self, snapshot: Snapshot) -> tuple[Floats, Split]:
        rows = self._config.entity_rows
        with self._steps.step("split") as step:
            named = {rows.event_timestamp, rows.label, rows.label_timestamp, *rows.row_id}
            table = snapshot.table([name for name in snapshot.schema.names if name in named])
            checks.check_unique(table, rows.row_id)
            labels = checks.read_labels(table, rows, self._config.training.objective)
            event, known = (checks.read_times(table, n) for n in (rows.event_timestamp, rows.label_timestamp))
            split = split_rows(event, known, self._config.split)
            checks.check_split(split, labels, self._config.training.objective)
            counts = self.result.split = split.counts()
            step.rows_in = snapshot.dataset.rows
            step.rows_out = counts["train"] + counts["valid"] + counts["test"]
            late = counts["label_unknown_train"] + counts["label_unknown_valid"]
            step.note = (
                f"train {counts['train']:,}, valid {counts['valid']:,}, test {counts['test']:,}; "
                f"left out: {late:,} with a label not known in time, {counts['outside']:,} outside"
            )
        return labels, split

    def _matrix(self, snapshot: Snapshot, split: Split) -> Matrix:
        with self._steps.step("matrix") as step:
            inputs = choose_inputs(self._config.inputs, snapshot.schema, snapshot.summary)
            for baseline in self._config.baselines:
                _check_baseline(baseline, inputs)
            matrix = learn_matrix(inputs, snapshot.column, split.parts())
            for warning in checks.check_inputs(matrix, self._config.checks):
                self._warn(warning)
            step.note = (
                f"{len(inputs)} inputs, {sum(item.categorical for item in inputs)} of them categorical"
            )
        self.result.inputs = matrix.inputs
        return matrix

    def _train(self, matrix: Matrix, labels: Mapping[str, Floats]) -> training.Trained:
        """The model and its baselines, judged on the same rows."""
        config, objective = self._config.training, self._config.training.objective
        with self._steps.step("train") as step:
            step.rows_in = len(labels["train"])
            trained = training.train(config, matrix, labels, self._on_round("train"))
            for warning in trained.warnings:
                self._warn(f"LightGBM: {warning}")
            model = self._judge("model", trained.text, matrix, labels)
            self.result.rounds = trained.rounds
            step.note = f"{trained.rounds} rounds; test {_shown(model.test)}"
        self.result.evaluated.append(model)
        with self._steps.step("baselines") as step:
            # Of 0/1 labels the mean is the base rate, the best answer that looks at nothing.
            base = float(labels["train"].mean())
            flat = {
                p: evaluate(objective, labels[p], np.full(len(labels[p]), base)) for p in ("valid", "test")
            }
            self.result.evaluated.append(Evaluated("base_rate", flat["valid"], flat["test"]))
            for baseline in self._config.baselines:
                part = matrix.only(baseline.inputs)
                small = training.train(config, part, labels, self._on_round(baseline.name))
                self.result.evaluated.append(self._judge(baseline.name, small.text, part, labels))
            step.note = "; ".join(f"{e.name}: test {_shown(e.test)}" for e in self.result.evaluated[1:])
        return trained

    def _judge(self, name: str, text: str, matrix: Matrix, labels: Mapping[str, Floats]) -> Evaluated:
        config = self._config.training
        values = {
            part: evaluate(
                config.objective, labels[part], training.predict(text, matrix.parts[part], config.threads)
            )
            for part in ("valid", "test")
        }
        return Evaluated(name, values["valid"], values["test"])

    def _register(
        self,
        registry: Registry,
        run: RecordedRun,
        snapshot: Snapshot,
        matrix: Matrix,
        trained: training.Trained,
    ) -> None:
        signature = Signature(
            matrix.inputs, training.OUTPUT[self._config.training.objective], snapshot.dataset.service
        )
        metrics = {e.name: {"validation": dict(e.valid), "test": dict(e.test)} for e in self.result.evaluated}
        files = {
            MODEL_FILE: trained.text,
            "metrics.json": json.dumps({"metrics": metrics, "split": self.result.split}, indent=2) + "\n",
            "environment.txt": "".join(f"{line}\n" for line in self._environment.lines),
        }
        with self._steps.step("register") as step:
            made = register(
                registry,
                run,
                self._config,
                snapshot.dataset,
                recipe(self._config, snapshot.dataset, self.result.split),
                signature,
                files,
                self.result.evaluated,
            )
            step.note = made.version
        self.result.version, self.result.version_number = made.version, made.number
        self.result.manifest_digest = made.manifest_digest

    def _promote(
        self, registry: Registry, run: RecordedRun, snapshot: Snapshot, split: Split, labels: Floats
    ) -> None:
        objective, metric = self._config.training.objective, self._config.promotion_metric
        test = {"test": split.test}

        def score(inputs: tuple[Input, ...], model: Path) -> Metrics | None:
            if not all(_readable(item, snapshot) for item in inputs):
                return None
            matrix = build_matrix(inputs, snapshot.column, test)
            text = training.load_text(model, len(inputs))
            predictions = training.predict(text, matrix.parts["test"], self._config.training.threads)
            return evaluate(objective, labels[split.test], predictions)

        greater = METRICS[objective][metric].greater_is_better
        promoter = Promoter(registry, self._config.promotion, metric, greater, score)
        with self._steps.step("promote") as step:
            step.rows_in = int(split.test.sum())
            candidate = Candidate(
                self._config.model,
                self.result.version,
                snapshot.dataset.name,
                self.result.evaluated[0].test,
            )
            promotion = promoter.promote(candidate)
            self.result.promotion = promotion
            step.note = f"{'moved' if promotion.promoted else 'not moved'}: {promotion.reason}"
            run.decided(promotion.promoted, promotion.reason)

    def _on_round(self, what: str) -> training.OnRound:
        return lambda done, total: self._reporter.progress(f"{what}: rounds", done, total)

    def _warn(self, text: str) -> None:
        self.result.warnings.append(text)
        self._reporter.warning(text)


def _check_baseline(baseline: Baseline, inputs: tuple[Input, ...]) -> None:
    unknown = sorted(set(baseline.inputs) - {item.name for item in inputs})
    if unknown:
        raise ConfigError(
            f"baselines.{baseline.name}: {', '.join(unknown)} not among the inputs of the model"
        )


def _readable(item: Input, snapshot: Snapshot) -> bool:
    """Whether the snapshot has this input of another model, of a type that encodes the same way."""
    types = {column.name: column.type for column in snapshot.dataset.columns}
    return item.name in types and (types[item.name] == "STRING") == item.categorical


def _shown(metrics: Metrics) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items() if name != "rows")
