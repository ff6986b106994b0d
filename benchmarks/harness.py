"""What every benchmark does alike: rounds in turn, a table for people, results for machines.

A result row is {"case", "metric", "value", "low", "high", "goal", "better"}: the median over the rounds, the
least and greatest round, and what the project set itself (null: shown without a goal). A ratio is formed
round by round, from measurements taken right after one another, so that a noisy neighbour hits both sides.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"

#: The quick form takes a minute or two and says little about spread; it is for finding out that all runs.
QUICK = os.environ.get("QUICK", "") not in ("", "0")

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Row:
    """One line of the results."""

    case: str
    metric: str
    value: float
    low: float
    high: float
    goal: float | None
    better: Better

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.better == "higher" else self.value <= self.goal


class Samples:
    """Measurements by (case, name), one number a round."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[float]] = defaultdict(list)

    def add(self, case: str, name: str, value: float) -> None:
        """One measurement of one round."""
        self._found[case, name].append(value)

    def has(self, case: str, name: str) -> bool:
        """Whether anything was measured."""
        return bool(self._found.get((case, name)))

    def row(
        self, case: str, name: str, *, better: Better, goal: float | None = None, metric: str = ""
    ) -> Row:
        """The measurement as it is, under the name `metric` (default: its own)."""
        return _row(case, metric or name, self._found[case, name], better, goal)

    def ratio(
        self, case: str, over: str, under: str, *, metric: str, better: Better, goal: float | None = None
    ) -> Row:
        """over / under, round by round."""
        pairs = zip(self._found[case, over], self._found[case, under], strict=True)
        return _row(case, metric, [a / b for a, b in pairs], better, goal)

    def against_one(
        self, case: str, over: str, under: str, *, metric: str, better: Better, goal: float | None = None
    ) -> Row:
        """over / under, where `under` takes so long that it was measured only once."""
        (one,) = self._found[case, under]
        return _row(case, metric, [a / one for a in self._found[case, over]], better, goal)


def in_turn(rounds: int, contenders: Mapping[str, Callable[[], None]]) -> None:
    """Runs each contender once a round. The order turns from round to round, so that none always comes
    first or after the same neighbour."""
    names = list(contenders)
    for index in range(rounds):
        shift = index % len(names)
        for name in names[shift:] + names[:shift]:
            say(f"round {index + 1}/{rounds}: {name}")
            contenders[name]()


def report(name: str, rows: Sequence[Row], *, about: Mapping[str, str], write: bool = True) -> None:
    """Prints the table and writes results/NAME.json (results/NAME.quick.json is never written).

    about: what was measured and with which versions; printed above the table. write: False where only a part
    was measured.
    """
    console = Console(width=None if sys.stdout.isatty() else 140)
    for key, value in about.items():
        console.print(f"{key}: {value}", highlight=False)
    table = Table("case", "metric", "median", "lowest", "highest", "goal", "")
    for row in rows:
        goal = "" if row.goal is None else f"{'≥' if row.better == 'higher' else '≤'} {_shown(row.goal)}"
        verdict = {None: "", True: "met", False: "not met"}[row.met]
        table.add_row(
            row.case, row.metric, _shown(row.value), _shown(row.low), _shown(row.high), goal, verdict
        )
    console.print(table)
    if QUICK:
        console.print("quick run: nothing is written to benchmarks/results", highlight=False)
        return
    if not write:
        console.print("only a part was measured: nothing is written", highlight=False)
        return
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{name}.json"
    lines = ",\n".join(json.dumps(asdict(row)) for row in rows)
    target.write_text(f"[\n{lines}\n]\n")
    console.print(f"written to {target.relative_to(Path.cwd())}", highlight=False)


def say(line: str) -> None:
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


def _row(case: str, metric: str, found: Sequence[float], better: Better, goal: float | None) -> Row:
    digits = 4
    low, value, high = min(found), statistics.median(found), max(found)
    return Row(case, metric, _round(value, digits), _round(low, digits), _round(high, digits), goal, better)


def _round(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
