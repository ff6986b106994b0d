"""Tokens: who may do what."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from plumbline.errors import PermissionDenied, Unauthenticated
from plumbline.tokens import digest_of, new_token
from servicekit.access import Gate, Role

ANN, BOB = "token-of-ann", "token-of-bob"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def needed(method: str) -> Role:
    return Role.WRITE if method.endswith("Set") else Role.READ


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"# who may\n\nann write {digest_of(ANN)}\nbob  READ  {digest_of(BOB).upper()}\n")
    return path


def test_a_token_says_who_calls(file: Path) -> None:
    gate = Gate(file, needed)
    assert gate.admit("/s/Set", f"Bearer {ANN}") == "ann"
    assert gate.admit("/s/Get", f"bearer  {BOB} ") == "bob"


@pytest.mark.parametrize("sent", ["", "Bearer", "Bearer ", "Basic YTpi", f"Bearer {ANN}x", ANN, "Bearer ü"])
def test_without_a_token_nobody_calls(file: Path, sent: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        Gate(file, needed).admit("/s/Get", sent)
    assert ANN not in refused.value.message


def test_a_role_bounds_what_a_token_may(file: Path) -> None:
    with pytest.raises(PermissionDenied, match="bob may read; Set takes write") as refused:
        Gate(file, needed).admit("/s/Set", f"Bearer {BOB}")
    assert refused.value.metadata == {"actor": "bob", "method": "Set"}


def test_a_token_taken_away_is_refused_soon(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    gate = Gate(file, needed, clock)
    file.write_text(f"bob read {digest_of(BOB)}\n")
    assert gate.admit("/s/Get", f"Bearer {ANN}") == "ann"
    clock.now = 1.0
    with pytest.raises(Unauthenticated):
        gate.admit("/s/Get", f"Bearer {ANN}")
    file.write_text("nonsense\n")
    clock.now = 2.0
    with caplog.at_level(logging.ERROR):
        assert gate.admit("/s/Get", f"Bearer {BOB}") == "bob"
    assert "the tokens stay as they were" in caplog.text
    file.unlink()
    clock.now = 3.0
    assert gate.admit("/s/Get", f"Bearer {BOB}") == "bob"


@pytest.mark.parametrize(
    "line", ["ann", "ann write", "ann owner " + "0" * 64, "ann write 123", "ann write " + "g" * 64]
)
def test_a_line_that_is_wrong_is_named(file: Path, line: str) -> None:
    file.write_text(f"# first\n{line}\n")
    with pytest.raises(ValueError, match="line 2"):
        Gate(file, needed)


def test_a_token_has_one_owner(file: Path) -> None:
    file.write_text(f"ann read {digest_of(ANN)}\nbob read {digest_of(ANN)}\n")
    with pytest.raises(ValueError, match="line 2: the token is there twice"):
        Gate(file, needed)


def test_no_token_is_made_twice() -> None:
    assert len({new_token() for _ in range(100)}) == 100
