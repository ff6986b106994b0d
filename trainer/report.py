"""What the job says: to people while it runs and when it is done, to programs as JSON."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from trainer.domain import Result


class ConsoleReporter:
    """Progress on a console: one line a step; on a terminal, the step under way is shown as it moves."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._step = ""

    def started(self, step: str) -> None:
        self._step = step
        if self._console.is_terminal:
            self._status = self._console.status(f"{step} …")
            self._status.start()

    def progress(self, what: str, done: int, total: int) -> None:
        if self._status is not None:
            of = f" of {total:,}" if total else ""
            self._status.update(f"{escape(self._step)} … {escape(what)} {done:,}{of}")

    def finished(self, step: str, seconds: float, note: str) -> None:
        self.close()
        self._console.print(
            f"[bold]{step:<10}[/bold]{seconds:>7.1f} s  {escape(note)}", highlight=False, soft_wrap=True
        )

    def warning(self, text: str) -> None:
        self._console.print(f"[yellow]warning[/yellow]  {escape(text)}", highlight=False)

    def close(self) -> None:
        """Takes the moving line away."""
        if self._status is not None:
            self._status.stop()
            self._status = None


def as_json(result: Result) -> dict[str, Any]:
    """The result for programs. Times in ISO 8601, UTC; digests in hex."""
    dataset = result.dataset
    return {
        "outcome": result.outcome,
        "error": result.error,
        "model": result.model,
        "version": result.version,
        "version_number": result.version_number,
        "manifest_digest": result.manifest_digest,
        "run": result.run,
        "seconds": round(result.seconds, 3),
        "steps": [asdict(step) for step in result.steps],
        "dataset": None
        if dataset is None
        else {
            "name": dataset.name,
            "digest": dataset.digest,
            "entity_digest": dataset.entity_digest,
            "rows": dataset.rows,
            "columns": len(dataset.columns),
            "as_of_start": dataset.as_of_start.isoformat() if dataset.as_of_start else None,
            "as_of_end": dataset.as_of_end.isoformat() if dataset.as_of_end else None,
            "feature_service": asdict(dataset.service.definition),
            "feature_views": [asdict(view) for view in dataset.service.views],
            "path": result.snapshot,
        },
        "split": result.split,
        "inputs": [item.name for item in result.inputs],
        "rounds": result.rounds,
        "metrics": {e.name: {"validation": dict(e.valid), "test": dict(e.test)} for e in result.evaluated},
        "promotion": asdict(result.promotion) if result.promotion else None,
        "warnings": result.warnings,
    }


def write_json(result: Result, path: Path) -> None:
    """Writes the result; a reader sees the old file or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(as_json(result), indent=2) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def print_summary(result: Result, console: Console) -> None:
    """The result for people."""
    table = Table(title=f"{result.model}: how good on the test rows", title_justify="left")
    table.add_column("")
    names = [name for name in result.evaluated[0].test if name != "rows"] if result.evaluated else []
    for name in names:
        table.add_column(name, justify="right")
    for item in result.evaluated:
        table.add_row(item.name, *(f"{item.test[name]:.4f}" for name in names))
    console.print(table)
    if result.version:
        console.print(f"registered  {result.version}  ({result.run})", highlight=False)
    else:
        console.print("dry run: nothing was registered", highlight=False)
    if result.dataset:
        console.print(f"dataset     {result.dataset.name}", highlight=False)
    if result.promotion:
        moved = "now points at it" if result.promotion.promoted else "stays where it is"
        console.print(f"alias       {result.promotion.alias} {moved}", highlight=False)
        console.print(f"            {escape(result.promotion.reason)}", highlight=False)
    console.print(f"in          {result.seconds:.1f} s", highlight=False)
