"""What the demo says at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from plumbline.cli.lineage import lineage_tree
from plumbline.registry.v1.model_registry_service_pb2 import GetLineageResponse

# Where the command line looks by itself.
_DEFAULTS = {"features": "127.0.0.1:7410", "registry": "127.0.0.1:7420", "serving": "127.0.0.1:7430"}


def show(result: dict[str, Any], lineage: GetLineageResponse, console: Console, path: Path) -> None:
    """Prints the summary of a demo run."""
    training = result["training"]
    console.rule("[bold]Will this flight arrive more than 15 minutes late?")
    console.print(_steps(result))
    console.print(_metrics(training))
    promotion = training.get("promotion") or {}
    console.print(f"\n[bold]{training['version']}[/]  {promotion.get('reason', '')}")
    console.print(lineage_tree(training["version"], lineage))
    console.print()
    console.print(_predictions(result["predictions"]))
    parity = result["predictions"]["parity"]
    equal = parity["cells"] - parity["differing"]
    console.print(
        f"Served over gRPC and HTTP by {result['served']['model_version']}; {equal} of {parity['cells']}"
        " feature values used equal the point-in-time join.\n"
    )
    console.print(_next_steps(result, path), soft_wrap=True)


def _steps(result: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("step")
    for name in ("seconds", "rows in", "rows out"):
        table.add_column(name, justify="right")
    for step in result["steps"]:
        rows = [f"{step[key]:,}" if key in step else "" for key in ("rows_in", "rows_out")]
        table.add_row(step["name"], f"{step['seconds']:.1f}", *rows)
        if step["name"] == "train":
            for part in result["training"]["steps"]:
                counts = ["" if part[key] is None else f"{part[key]:,}" for key in ("rows_in", "rows_out")]
                table.add_row(f"[dim]  {part['name']}[/]", f"[dim]{part['seconds']:.1f}[/]", *counts)
    table.add_row("[bold]all[/]", f"[bold]{result['seconds']:.1f}[/]")
    return table


def _metrics(training: dict[str, Any]) -> Table:
    table = Table(
        box=None, pad_edge=False, header_style="bold", title="\nOn the test months", title_justify="left"
    )
    table.add_column("model")
    names = ["auc", "average_precision", "log_loss"]
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for model, metrics in training["metrics"].items():
        table.add_row(
            model, *(f"{metrics['test'][name]:.4f}" if name in metrics["test"] else "–" for name in names)
        )
    return table


def _predictions(found: dict[str, Any]) -> Table:
    """One column a flight, one row a feature."""
    flights = found["flights"]
    table = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        title=f"Five flights as seen at {found['moment'][:16]}Z, with the features used",
        title_justify="left",
    )
    table.add_column("")
    for flight in flights:
        table.add_column(flight["flight_id"].split("/")[0], justify="right")
    table.add_row("departs", *(flight["scheduled_departure"][11:16] + "Z" for flight in flights))
    for name in flights[0]["features"]:
        table.add_row(f"[dim]{name}[/]", *(_cell(flight, name) for flight in flights))
    for title, key in (("P(late), gRPC", "probability_late"), ("P(late), HTTP", "probability_late_http")):
        table.add_row(f"[bold]{title}[/]", *(f"[bold]{flight[key]:.4f}[/]" for flight in flights))
    table.add_row("was late", *("yes" if flight["was_late"] else "no" for flight in flights))
    return table


def _cell(flight: dict[str, Any], name: str) -> str:
    """The value, or why there is none."""
    value, status = flight["features"][name], flight["statuses"][name]
    if value is None:
        return f"[yellow]{status.lower().replace('_', ' ')}[/]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _next_steps(result: dict[str, Any], path: Path) -> str:
    exports = [
        f"  export PLUMBLINE_{name.upper()}_ADDRESS={address}"
        for name, address in result["addresses"].items()
        if address != _DEFAULTS[name]
    ]
    flight, version = result["predictions"]["flights"][0], result["training"]["version"]
    return "\n".join(
        (
            "[bold]Try next[/]",
            *exports,
            "  .venv/bin/plumbline models show flight_delay",
            f"  .venv/bin/plumbline lineage {version}",
            "  .venv/bin/plumbline features show flight_delay_v1",
            "  .venv/bin/plumbline features get flight_delay_v1 --rows examples/flights/rows.json",
            "  .venv/bin/plumbline features check-parity flight_delay_v1 --count 200",
            "  .venv/bin/plumbline predict --features --rows examples/flights/rows.json",
            "  make demo            again: registers the next version and compares it with the champion",
            "  make stack-status    what runs where; make stack-down stops it; make clean-state removes it",
            f"[dim]The flight {flight['flight_id']} and all the rest as JSON: {path}[/]",
        )
    )
