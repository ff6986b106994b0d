"""`plumbline registry watch`: changes as they happen."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict

from plumbline.cli.models import registry
from plumbline.cli.output import errors_for_people, when
from plumbline.registry.v1 import changes_pb2


def watch(
    model: Annotated[str, typer.Option(help="Only of this model.")] = "",
    kind: Annotated[list[str] | None, typer.Option(help="Only of this kind: model, version, alias …")] = None,
    resume: Annotated[str, typer.Option(help="Go on behind this token; --json tells them.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line, with its token.")] = False,
) -> None:
    """Follow the registry's changes until Ctrl-C, also over restarts of the server."""
    with errors_for_people(), registry() as client:
        try:
            for message in client.watch(resume_token=resume, model=model, kinds=kind or ()):
                # At once, and one a line: for programs that read along.
                if as_json:
                    print(json.dumps(MessageToDict(message, preserving_proto_field_name=True)), flush=True)
                elif message.HasField("event"):
                    print(line(message.event), flush=True)
        except KeyboardInterrupt:
            return


def line(event: changes_pb2.AuditEvent) -> str:
    """One event for people."""
    details = {key: value for key, value in json.loads(event.details).items() if key != "id"}
    what = "  ".join(f"{key}={_short(value)}" for key, value in details.items() if value not in ("", [], {}))
    return f"{when(event.time)}  {event.actor or '-'}  {event.action}  {event.resource}  {what}".rstrip()


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
