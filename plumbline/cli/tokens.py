"""`plumbline registry token …`: tokens for those who call the registry."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

import typer

from plumbline.tokens import digest_of, new_token

token_app = typer.Typer(help="Tokens for those who call the registry.", no_args_is_help=True)


class Role(StrEnum):
    """Each may do what those before it may."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


@token_app.callback()
def _commands() -> None:
    """A group, however few commands it has."""


@token_app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Whose it is: the actor in histories and in the audit.")],
    role: Annotated[Role, typer.Option(help="What it may do.")] = Role.READ,
) -> None:
    """Make a token. It is shown once, here; the registry is given the line with its digest.

    Put the line into the file that PLUMBLINE_REGISTRY_TOKENS_FILE names; the registry reads it within a
    second.
    """
    if not re.fullmatch(r"[^\s#]\S{0,127}", name) or not name.isprintable():
        raise typer.BadParameter("at most 128 characters without blanks, the first not '#'")
    token = new_token()
    print(f"token  {token}")
    print(f"line   {name} {role.value} {digest_of(token)}")
