"""`plumbline registry …`: keeping the registry itself in order."""

from __future__ import annotations

import re
from typing import Annotated

import typer
from rich.filesize import decimal

from plumbline.cli.auditing import audit, verify
from plumbline.cli.models import registry
from plumbline.cli.output import console, errors_for_people, print_json
from plumbline.cli.programs import PASSED_ON, backup, restore
from plumbline.cli.tokens import token_app
from plumbline.cli.watching import watch
from plumbline.cli.webhooks import webhook

Json = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

registry_app = typer.Typer(
    help="The registry itself: what it stores, and whether it is whole.", no_args_is_help=True
)


registry_app.command("verify")(verify)
registry_app.command("audit")(audit)
registry_app.command("watch")(watch)
registry_app.add_typer(token_app, name="token")
registry_app.command("backup", **PASSED_ON)(backup)
registry_app.command("restore", **PASSED_ON)(restore)
registry_app.add_typer(webhook, name="webhook")


@registry_app.callback()
def _commands() -> None:
    """A group, however few commands it has."""


@registry_app.command("gc")
def collect_garbage(
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Remove what was marked; without it, only mark.")
    ] = False,
    min_age: Annotated[
        str, typer.Option(help="Sweep what was marked at least so long ago: 90s, 30m, 12h, 7d.")
    ] = "1d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell it, change nothing.")] = False,
    json: Json = False,
) -> None:
    """Find, then remove artifact bytes that no version refers to.

    Two steps, far enough apart that no upload under way is in between: `gc` marks, `gc --sweep` removes what
    was marked a day ago and still is of no use. Uploads that nobody went on with for a week go with it.
    """
    seconds = _seconds(min_age)
    with errors_for_people(), registry() as client:
        if sweep:
            found = client.sweep_garbage(min_age_seconds=seconds, dry_run=dry_run)
        else:
            found = client.mark_garbage(dry_run=dry_run)
        if json:
            print_json(found)
            return
        done = ("would be removed" if dry_run else "removed") if sweep else "of no use"
        console.print(f"{found.blobs} blobs of {decimal(found.bytes)} {done}", highlight=False)
        if sweep:
            console.print(f"{found.uploads} uploads given up for a week {done}", highlight=False)
        elif found.blobs and not dry_run:
            console.print("marked; `plumbline registry gc --sweep` removes them from tomorrow on")
        for sha256 in found.sha256:
            console.print(f"  {sha256}", highlight=False)
        if found.blobs > len(found.sha256):
            console.print(f"  … and {found.blobs - len(found.sha256)} more")


def _seconds(text: str) -> int:
    """Of "90s", "30m", "12h", "7d"."""
    found = re.fullmatch(r"(\d+)([smhd])", text.strip())
    if not found or not int(found[1]):
        raise typer.BadParameter(f"{text!r} is no time; say 90s, 30m, 12h or 7d", param_hint="--min-age")
    return int(found[1]) * _UNITS[found[2]]
