"""Environments of the peers: what we measure against never shares packages with us.

`peers/NAME.in` names the packages, `peers/NAME.txt` locks them with hashes (`make bench-lock`). An
environment is made in `.plumbline/peers/NAME` when a benchmark first needs it.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from benchmarks.harness import say

_HERE = Path(__file__).parent / "peers"
_ENVIRONMENTS = Path(".plumbline/peers")


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment, made first where it is missing or its lock has changed.

    Raises SystemExit with the log when it cannot be made.
    """
    lock = _HERE / f"{name}.txt"
    folder = (_ENVIRONMENTS / name).absolute()
    python, stamp = folder / "bin" / "python", folder / ".lock-installed"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    say(f"making the environment of {name} (once) in {folder}")
    uv = str(Path(sys.executable).with_name("uv"))
    for command in (
        [uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder)],
        [uv, "pip", "sync", "-q", "--require-hashes", "--python", str(python), str(lock)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"cannot make the environment of {name}:\n{done.stdout}{done.stderr}")
    stamp.write_text(wanted)
    return python
