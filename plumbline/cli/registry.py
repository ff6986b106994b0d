"""`plumbline registry …`: keeping the registry itself in order."""

from __future__ import annotations

import typer

from plumbline.cli.auditing import audit, verify

registry_app = typer.Typer(
    help="The registry itself: what it stores, and whether it is whole.", no_args_is_help=True
)
registry_app.command("verify")(verify)
registry_app.command("audit")(audit)
