"""docs/feast.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
NAMED = re.compile(r"`((?:unit|contract|integration)/\S+\.py)::(\w+)`")


def test_every_error_of_feasts_is_held_by_a_test_that_exists() -> None:
    named = NAMED.findall((ROOT / "docs" / "feast.md").read_text())
    assert len(named) >= 11
    for file, name in named:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), f"{file}::{name}"
