"""Where a model was made: the packages installed and the state of the code."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from trainer.domain import CodeRevision, Environment


def installed_packages() -> Environment:
    """The packages of this interpreter as sorted "name==version" lines, names in their normal form."""
    found = {
        f"{re.sub(r'[-_.]+', '-', name).lower()}=={item.version}"
        for item in metadata.distributions()
        if (name := item.metadata["Name"])
    }
    lines = tuple(sorted(found))
    digest = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
    return Environment(lines, f"sha256:{digest}", platform.python_version(), platform.platform())


def code_revision(folder: Path) -> CodeRevision:
    """The git commit of the folder's working tree, and whether the tree differs from it.

    Without git, or outside a working tree, or before its first commit: the folder's name and no commit.
    """
    top = _git(folder, "rev-parse", "--show-toplevel")
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    if not top or not commit:
        return CodeRevision(folder.resolve().name, "", dirty=False)
    remote = _git(folder, "config", "--get", "remote.origin.url")
    # Where git cannot say, the commit is not vouched for.
    dirty = _git(folder, "status", "--porcelain") != ""
    return CodeRevision(without_credentials(remote or "") or Path(top).name, commit, dirty)


def without_credentials(remote: str) -> str:
    """A remote's URL without user, password and query: "https://u:p@host/x.git" → "https://host/x.git"."""
    scheme, separator, rest = remote.partition("://")
    if not separator:
        # user@host:path is an address, not a secret; a path is the name of this machine's folder.
        return remote if re.match(r"^[^/]+@[^/]+:", remote) else Path(remote).name
    host, slash, path = rest.partition("/")
    if scheme == "file":
        return Path(path).name
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def _git(folder: Path, *arguments: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    done = subprocess.run(  # noqa: S603 - fixed arguments
        [git, "-C", str(folder), *arguments], capture_output=True, text=True, check=False, timeout=30
    )
    return done.stdout.strip() if done.returncode == 0 else None
