"""Where the stack keeps things, and how it says that something went wrong."""

from __future__ import annotations

import os
from pathlib import Path


class StackError(Exception):
    """What went wrong, for people."""


def state_folder() -> Path:
    """Where everything the stack writes lives: PLUMBLINE_STATE, or .plumbline in the checkout."""
    return Path(os.environ.get("PLUMBLINE_STATE", ".plumbline")).resolve()
