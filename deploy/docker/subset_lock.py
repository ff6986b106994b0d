"""The part of requirements.lock that some extras of pyproject.toml need, hashes and all.

    python deploy/docker/subset_lock.py --extra registry --extra postgres > registry.txt

An image installs what its program needs, at the locked versions, and nothing else. Below every package the
lock says who asked for it ("# via …"), so its text is enough: no resolver and no network are needed.
"via" names packages without their extras, so a subset may hold one too many: --without drops it, and what
only it asked for. One too few, pip would notice: with --require-hashes it refuses an unlisted dependency.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?")


class LockError(Exception):
    """The lock and pyproject.toml do not fit; the message says where."""


@dataclass(frozen=True)
class Pin:
    """One package of the lock: its lines as they stand there, and the names of those who asked for it."""

    name: str
    text: str
    via: frozenset[str]


def normal(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(text: str) -> list[Pin]:
    """The pins in order. A package may have several, told apart by environment markers."""
    pins: list[Pin] = []
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        # A pin starts at the margin; its hashes and comments are indented.
        if block and not line.startswith(" "):
            pins.append(_pin(block))
            block = []
        if line and not line.startswith("#"):
            block.append(line)
    return pins


def _pin(block: list[str]) -> Pin:
    match = _NAME.match(block[0])
    if match is None or "==" not in block[0]:
        raise LockError(f"not a pinned requirement: {block[0]!r}")
    if not any("--hash=sha256:" in line for line in block):
        raise LockError(f"{match[1]} has no hash in the lock; make it anew: make lock")
    comments = [line.strip().lstrip("#").strip() for line in block if line.lstrip().startswith("#")]
    names = " ".join(comments).removeprefix("via").split()
    return Pin(normal(match[1]), "\n".join(block), frozenset(normal(name) for name in names))


def wanted(pyproject: dict[str, object], extras: list[str]) -> set[str]:
    """Names that the project itself requires with these extras. Raises LockError for an unknown extra."""
    project = pyproject["project"]
    assert isinstance(project, dict)
    own, optional = normal(project["name"]), project["optional-dependencies"]
    names: set[str] = set()
    seen: set[str] = set()
    queue = list(extras)
    requirements = list(project["dependencies"])
    while queue or requirements:
        for requirement in requirements:
            match = _NAME.match(requirement)
            assert match is not None, requirement
            if normal(match[1]) == own:
                queue.extend(part.strip() for part in (match[2] or "").split(","))
            else:
                names.add(normal(match[1]))
        requirements = []
        if queue and (extra := queue.pop()) not in seen:
            if extra not in optional:
                raise LockError(
                    f"pyproject.toml has no extra {extra!r}; it has {', '.join(sorted(optional))}"
                )
            seen.add(extra)
            requirements = list(optional[extra])
    return names


def subset(pins: list[Pin], roots: set[str], without: set[str]) -> list[Pin]:
    """The pins of the roots and of everything they ask for, in the lock's order, but for those `without`."""
    missing = (roots | without) - {pin.name for pin in pins}
    if missing:
        raise LockError(f"not in the lock: {', '.join(sorted(missing))}")
    needed = roots - without
    while more := {pin.name for pin in pins if pin.via & needed} - needed - without:
        needed |= more
    return [pin for pin in pins if pin.name in needed]


def main(arguments: list[str] | None = None) -> int:
    """Prints the subset. Exit codes: 0; 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--extra", action="append", default=[], help="an extra of pyproject.toml; repeatable")
    parser.add_argument("--without", action="append", default=[], help="a package to leave out; repeatable")
    parser.add_argument("--pyproject", type=Path, default=Path("pyproject.toml"))
    parser.add_argument("--lock", type=Path, default=Path("requirements.lock"))
    options = parser.parse_args(arguments)
    try:
        roots = wanted(tomllib.loads(options.pyproject.read_text()), options.extra)
        pins = subset(read_lock(options.lock.read_text()), roots, {normal(name) for name in options.without})
    except (LockError, OSError) as error:
        print(f"subset_lock: {error}", file=sys.stderr)
        return 1
    print("\n".join(pin.text for pin in pins))
    return 0


if __name__ == "__main__":
    sys.exit(main())
