"""docs/writes.md names commands, options and settings that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from typer.main import get_command

from plumbline.cli.main import app

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "writes.md").read_text()
COMMANDS = re.findall(r"^plumbline (.*)$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_is_understood(line: str) -> None:
    words = shlex.split(line, comments=True)
    command: click.Command = get_command(app)
    context = click.Context(command)
    while isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found is not None, line
        command = found
    command.make_context(line, words)


def test_there_are_commands_of_each_kind() -> None:
    assert {line.split()[1] for line in COMMANDS} == {"materialize", "push", "check-parity"}


def test_settings_that_are_named_exist() -> None:
    known = (ROOT / "docs" / "operations.md").read_text()
    for name in re.findall(r"PLUMBLINE_[A-Z_]+", TEXT):
        assert f"`{name}`" in known, name
