"""`plumbline registry verify` and `plumbline registry audit`: what happened, and whether it is still so."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from plumbline.cli.models import registry
from plumbline.cli.output import Json, console, errors_for_people, print_json, print_table, when
from plumbline.registry.v1 import changes_pb2 as pb

#: The exit code of a registry that is not intact.
NOT_INTACT = 1

_SHOWN = 100


def verify(
    skip_blobs: Annotated[
        bool, typer.Option("--skip-blobs", help="Check events and records only, not the bytes of files.")
    ] = False,
    anchor: Annotated[
        str, typer.Option(metavar="SEQ:HASH", help="The head an earlier verification showed.")
    ] = "",
    json: Json = False,
) -> None:
    """Check that nothing was altered, removed or added behind the registry's back.

    Every event's hash, every record against the last event about it, every stored byte. Exits with 1 when
    anything is found. Keep the head it shows elsewhere: given as --anchor later, it tells whether the whole
    chain was written anew.
    """
    findings: list[pb.IntegrityFinding] = []
    summary = pb.VerifySummary()
    with errors_for_people(), registry() as client, _progress(quiet=json) as show:
        for part in client.verify_integrity(anchor=anchor, skip_blobs=skip_blobs):
            if part.WhichOneof("part") == "progress":
                show(part.progress)
            elif part.WhichOneof("part") == "finding":
                findings.append(part.finding)
            else:
                summary = part.summary
    if json:
        print_json({"summary": summary, "findings": findings})
    else:
        _print(summary, findings, skip_blobs=skip_blobs)
    if not summary.intact:
        raise SystemExit(NOT_INTACT)


def audit(
    condition: Annotated[
        str, typer.Option("--filter", help='As in: actor = "ann" AND action = "SetAlias"')
    ] = "",
    limit: Annotated[int, typer.Option(min=0, help="How many events; 0: all.")] = 0,
    json: Json = False,
) -> None:
    """What happened in the registry, newest first: who did what when."""
    with errors_for_people(), registry() as client:
        found: list[pb.AuditEvent] = []
        for event in client.list_audit_events(condition):
            found.append(event)
            if len(found) == limit:
                break
        if json:
            print_json(found)
            return
        print_table(
            ("EVENT", "WHEN", "BY", "ACTION", "RESOURCE", "DETAILS"),
            [(e.sequence, when(e.time), e.actor, e.action, e.resource, _short(e.details)) for e in found],
        )


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[pb.VerifyProgress], None]]:
    """A bar a stage on stderr; nothing where that is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    disabled = quiet or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=disabled) as shown:
        tasks = {}

        def update(found: pb.VerifyProgress) -> None:
            if found.stage not in tasks:
                tasks[found.stage] = shown.add_task(found.stage, total=None)
            shown.update(tasks[found.stage], completed=found.done, total=found.total)

        yield update


def _print(summary: pb.VerifySummary, findings: list[pb.IntegrityFinding], *, skip_blobs: bool) -> None:
    blobs = "no bytes" if skip_blobs else f"{summary.blobs} blobs ({decimal(summary.blob_bytes)})"
    console.print(f"{summary.events} events, {summary.records} records, {blobs} checked", markup=False)
    if summary.records_before_audit:
        console.print(
            f"{summary.records_before_audit} records are older than the audit: no event tells what they were",
            markup=False,
        )
    if findings:
        print_table(
            ("FINDING", "RESOURCE", "DESCRIPTION"),
            [
                (pb.FindingKind.Name(item.kind).removeprefix("FINDING_KIND_"), item.resource, item.message)
                for item in findings[:_SHOWN]
            ],
        )
    if summary.findings > len(findings[:_SHOWN]):
        console.print(f"… and {summary.findings - len(findings[:_SHOWN])} more; --json tells them")
    if summary.intact:
        console.print("[green]intact[/green]")
    else:
        console.print(f"[red]not intact[/red]: {summary.findings} findings")
    console.print(f"head {summary.head}", markup=False, soft_wrap=True)


def _short(details: str) -> str:
    return details if len(details) <= _SHOWN else f"{details[:_SHOWN]}…"
