"""The main job from nothing to live predictions: `make demo`.

    python -m examples.flights.demo [--months 1-3] [--set KEY=VALUE …]

Reads the flights, starts the local stack, trains, registers and promotes a model, brings features online
and asks for predictions over gRPC and HTTP. Ends with a summary, also as JSON in
.plumbline/demo/summary.json, and leaves the stack running. It can be run again at any time: what is there
is used, a new version is registered.
Exit codes: 0 done; 1 a step failed; 130 interrupted (then the stack is stopped if this run started it)."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from deploy.local import stack
from deploy.local.programs import PROGRAMS, check_ports, environment
from deploy.local.records import read_records
from deploy.local.state import StackError, state_folder
from examples.flights import live, summary
from plumbline import FeatureClient, PredictionClient, RegistryClient
from plumbline.errors import PlumblineError

T = TypeVar("T")
MODEL = "flight_delay"
CONFIG = Path("examples/flights/training.yaml")


class DemoError(Exception):
    """A step failed; the message is for people."""


@dataclass
class Demo:
    """One run: its environment, its options, and what it has to tell."""

    env: dict[str, str]
    months: str | None
    settings: list[str]
    console: Console
    steps: list[dict[str, Any]] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        """All steps in order; returns the summary. Raises DemoError, StackError or PlumblineError."""
        folder = state_folder() / "demo"
        folder.mkdir(parents=True, exist_ok=True)
        running = {name for name, record in read_records().items() if record.alive()}
        check_ports([program for program in PROGRAMS if program.name not in running], self.env)
        ingest = self._step("ingest", self._ingest)
        self._step("stack", self._start_stack)
        training = self._step("train", lambda: self._train(folder / "training.json"))
        self._step("materialize", self._materialize)
        served = self._step("serve", lambda: self._wait_for_serving(training))
        predictions = self._step("predict", lambda: self._predict(ingest["folder"]))
        with RegistryClient(self.env["PLUMBLINE_REGISTRY_ADDRESS"]) as registry:
            lineage = registry.get_lineage(training["version"])
            metrics = dict(registry.get_version(training["version"]).evaluations[-1].metrics)
        result = {
            "seconds": round(sum(step["seconds"] for step in self.steps), 2),
            "steps": self.steps,
            "training": training,
            "registered_test_metrics": metrics,
            "served": served,
            "predictions": predictions,
            "addresses": {
                key.removeprefix("PLUMBLINE_").removesuffix("_ADDRESS").lower(): self.env[key]
                for key in (
                    "PLUMBLINE_FEATURES_ADDRESS",
                    "PLUMBLINE_REGISTRY_ADDRESS",
                    "PLUMBLINE_SERVING_ADDRESS",
                )
            },
        }
        scratch = folder / ".summary.json"
        scratch.write_text(json.dumps(result, indent=2, default=str) + "\n")
        os.replace(scratch, folder / "summary.json")
        summary.show(result, lineage, self.console, folder / "summary.json")
        return result

    def _step(self, name: str, work: Callable[[], T]) -> T:
        self.console.print(f"[bold cyan]{name}[/]")
        begin = time.perf_counter()
        result = work()
        rows = {
            k: v
            for k, v in (result if isinstance(result, dict) else {}).items()
            if k in ("rows_in", "rows_out")
        }
        self.steps.append({"name": name, "seconds": round(time.perf_counter() - begin, 2)} | rows)
        return result

    def _ingest(self) -> dict[str, Any]:
        folder = Path(self.env["PLUMBLINE_FLIGHTS_DATA"])
        report = folder / "ingest.json"
        wanted = _months(self.months)
        if not report.exists() or json.loads(report.read_text())["months"] != wanted:
            command = ["-m", "examples.flights.ingest", "--out", str(folder)]
            self._python([*command, *(["--months", self.months] if self.months else [])])
        else:
            self.console.print(f"  already there: {folder}")
        counted = json.loads(report.read_text())
        return {
            "folder": folder,
            "rows_in": counted["files"]["flights"]["rows_in"],
            "rows_out": counted["entities"],
        }

    def _start_stack(self) -> None:
        stack.up()

    def _train(self, result: Path) -> dict[str, Any]:
        result.unlink(missing_ok=True)
        overrides = [part for item in self.settings for part in ("--set", item)]
        self._python(
            ["-m", "trainer", "--config", str(CONFIG), "--result", str(result), "--json", *overrides],
            quiet=True,
        )
        training: dict[str, Any] = json.loads(result.read_text())
        return training | {"rows_in": training["dataset"]["rows"], "rows_out": training["dataset"]["rows"]}

    def _materialize(self) -> dict[str, Any]:
        rows = 0
        with FeatureClient(self.env["PLUMBLINE_FEATURES_ADDRESS"]) as features:
            for progress in features.materialize():
                if progress.view_finished:
                    rows += progress.rows_written
                    self.console.print(
                        f"  {progress.view:<26} {progress.rows_written:>7,} rows"
                        f"  ({progress.views_done}/{progress.views_total})"
                    )
        return {"rows_out": rows}

    def _wait_for_serving(self, training: dict[str, Any]) -> dict[str, Any]:
        """Serving follows the alias by itself; this waits until it has."""
        address, deadline = self.env["PLUMBLINE_SERVING_ADDRESS"], time.monotonic() + 60
        with RegistryClient(self.env["PLUMBLINE_REGISTRY_ADDRESS"]) as registry:
            champion = registry.resolve_alias(f"{MODEL}@champion").version.name
        with PredictionClient(address) as serving:
            while True:
                try:
                    served = serving.get_model()
                    last = served.last_error or f"still serves {served.model_version}"
                    if served.model_version == champion:
                        break
                except PlumblineError as error:
                    last = str(error)
                if time.monotonic() > deadline:
                    raise DemoError(f"serving does not serve {champion} after 60 s: {last}")
                time.sleep(0.1)
        self.console.print(f"  {champion} is served, sha256 {served.model_sha256[:16]}…")
        if champion != training["version"]:
            self.console.print(f"  ({training['version']} was not better, so the champion stays)")
        return {"model_version": champion, "model_sha256": served.model_sha256}

    def _predict(self, folder: Path) -> dict[str, Any]:
        moment = datetime.fromisoformat(self.env["PLUMBLINE_FEATURES_REPLAY_TIME"].replace("Z", "+00:00"))
        flights = live.next_flights(folder / "entities.parquet", moment, count=5)
        found = live.predict(flights, moment, self.env)
        self.console.print(f"  {len(flights)} flights over gRPC and HTTP: same answers")
        self.console.print(
            f"  {found['parity']['cells']} online feature values compared with the point-in-time join at"
            f" {moment:%Y-%m-%d %H:%MZ}: {found['parity']['differing']} differ"
        )
        return found

    def _python(self, arguments: list[str], quiet: bool = False) -> None:
        """Runs a program of this project; its progress goes to the terminal."""
        done = subprocess.run(
            [sys.executable, *arguments],
            env=self.env,
            stdout=subprocess.DEVNULL if quiet else None,
            check=False,
        )
        if done.returncode:
            raise DemoError(
                f"`python {' '.join(arguments[:2])}` failed with exit code {done.returncode}; see above"
            )


def main(arguments: list[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(
        prog="demo", description="The main job, from nothing to live predictions."
    )
    parser.add_argument("--months", help="only these months of 2013, as 1-3")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="passed to the trainer"
    )
    options = parser.parse_args(arguments)
    console, before = (
        Console(highlight=False, width=None if sys.stdout.isatty() else 120),
        {n for n, r in read_records().items() if r.alive()},
    )
    try:
        Demo(environment(), options.months, options.set, console).run()
    except (DemoError, StackError, PlumblineError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr)
        if not before:
            stack.down()
        return 130
    return 0


def _months(text: str | None) -> list[int] | None:
    if text is None:
        return None
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[2])
    sys.exit(main())
