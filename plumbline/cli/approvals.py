"""`plumbline models approve|reject|withdraw|approvals`: what people said about a version."""

from __future__ import annotations

from typing import Annotated

import typer

from plumbline.cli.models import registry
from plumbline.cli.output import Json, console, errors_for_people, print_json, print_table, when
from plumbline.registry.v1 import governance_pb2 as gov

Version = Annotated[str, typer.Argument(help="m/3")]
For = Annotated[str, typer.Option("--for", help="The alias it is meant for, as champion; any without it.")]
Comment = Annotated[str, typer.Option(help="Kept with it.")]


def approve(version: Version, alias: For = "", comment: Comment = "", json: Json = False) -> None:
    """Say that a version may be promoted."""
    _say(version, gov.APPROVAL_DECISION_APPROVED, alias, comment, json)


def reject(version: Version, alias: For = "", comment: Comment = "", json: Json = False) -> None:
    """Say that a version must not be promoted, however many approve."""
    _say(version, gov.APPROVAL_DECISION_REJECTED, alias, comment, json)


def withdraw(version: Version, alias: For = "", comment: Comment = "", json: Json = False) -> None:
    """Take back what you said about a version before."""
    _say(version, gov.APPROVAL_DECISION_WITHDRAWN, alias, comment, json)


def approvals(version: Version, json: Json = False) -> None:
    """All that was said about a version, newest first; of each person the last word counts."""
    with errors_for_people(), registry() as client:
        found = list(client.list_approvals(version))
        if json:
            print_json(found)
            return
        print_table(
            ("WHEN", "BY", "DECISION", "FOR", "REASON"),
            [(when(item.create_time), item.actor, _word(item), item.alias, item.comment) for item in found],
        )


def _say(
    version: str, decision: gov.ApprovalDecision.ValueType, alias: str, comment: str, json: bool
) -> None:
    with errors_for_people(), registry() as client:
        made = client.record_approval(version, decision, alias=alias, comment=comment)
        if json:
            print_json(made)
            return
        meant = f" for {made.alias}" if made.alias else ""
        of = made.name.partition("/approvals/")[0]
        console.print(f"{of} {_word(made).lower()}{meant} by {made.actor}", markup=False)


def _word(item: gov.Approval) -> str:
    return gov.ApprovalDecision.Name(item.decision).removeprefix("APPROVAL_DECISION_")
