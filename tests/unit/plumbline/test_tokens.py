"""`plumbline registry token new`: a token for a person, a line for the registry."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from plumbline.cli.main import app
from plumbline.tokens import digest_of
from servicekit.access import Grant, Role, read_grants


def test_the_line_is_the_tokens(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["registry", "token", "new", "ann@example.com", "--role", "write"])
    assert told.exit_code == 0
    shown = dict(line.split(maxsplit=1) for line in told.output.splitlines())
    file = tmp_path / "tokens"
    file.write_text(shown["line"] + "\n")
    assert read_grants(file) == {digest_of(shown["token"]): Grant("ann@example.com", Role.WRITE)}
    assert shown["token"] not in shown["line"]


@pytest.mark.parametrize("name", ["", "a b", "#ann", "x" * 129])
def test_a_name_that_no_line_can_have(name: str) -> None:
    assert CliRunner().invoke(app, ["registry", "token", "new", name]).exit_code == 2
