"""The command line: `plumbline …`, for people; `--json` for programs."""

from plumbline.cli.main import main

__all__ = ["main"]
