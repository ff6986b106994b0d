"""Who may call what: bearer tokens, known by their digests alone.

A file has a line for each token: whose it is, what it may do (read, write or admin), and its sha256. Blank
lines and those that begin with '#' are nothing. A token is shown once, when it is made, and kept nowhere.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from plumbline.errors import PermissionDenied, Unauthenticated
from plumbline.tokens import digest_of

_log = logging.getLogger("plumbline.access")

_BEARER = "bearer "
# How often the file is looked at for changes.
_LOOK_SECONDS = 1.0


class Role(IntEnum):
    """Each may do what those before it may."""

    READ = 1
    WRITE = 2
    ADMIN = 3


@dataclass(frozen=True)
class Grant:
    actor: str
    role: Role


class Gate:
    """Lets calls in by their tokens.

    The file is read again when it has changed: a token taken out of it is refused a second later. A file that
    cannot be read or understood any more changes nothing, and is complained of in the log.
    """

    def __init__(
        self,
        path: Path,
        needed: Callable[[str], Role],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """needed: by a call's method. Raises OSError, ValueError when the file is not as it must be."""
        self._path, self._needed, self._clock = path, needed, clock
        self._stamp = self._stamped()
        self._grants = read_grants(path)
        self._looked = clock()

    def admit(self, method: str, authorization: str) -> str:
        """The actor. authorization: the value of the call's header or metadata of that name. Raises
        Unauthenticated, PermissionDenied."""
        self._look()
        if authorization[: len(_BEARER)].lower() != _BEARER:
            raise Unauthenticated(
                "this server asks for a token: send it as 'authorization: Bearer …' (clients of Plumbline "
                "take it from PLUMBLINE_TOKEN, MLflow's from MLFLOW_TRACKING_TOKEN)"
            )
        # By digest: how long a look-up takes tells nothing about the tokens there are.
        grant = self._grants.get(digest_of(authorization[len(_BEARER) :].strip()))
        if grant is None:
            raise Unauthenticated("this server does not know the token that was sent")
        needed = self._needed(method)
        if grant.role < needed:
            name = method.rpartition("/")[2]
            raise PermissionDenied(
                f"{grant.actor} may {grant.role.name.lower()}; {name} takes {needed.name.lower()}",
                metadata={"actor": grant.actor, "method": name},
            )
        return grant.actor

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        try:
            stamp = self._stamped()
            if stamp != self._stamp:
                self._grants, self._stamp = read_grants(self._path), stamp
                _log.info("read %d tokens from %s", len(self._grants), self._path)
        except (OSError, ValueError) as error:
            _log.error("the tokens stay as they were: %s", error)

    def _stamped(self) -> tuple[int, int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino


def read_grants(path: Path) -> Mapping[str, Grant]:
    """By digest. Raises OSError; ValueError that names the line that is wrong."""
    grants: dict[str, Grant] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        digest = words[-1].lower()
        if len(words) != 3 or words[1].upper() not in Role.__members__ or not _is_digest(digest):
            raise ValueError(
                f"{path}, line {number}: expected an actor, read, write or admin, and the sha256 of a token"
            )
        if digest in grants:
            raise ValueError(f"{path}, line {number}: the token is there twice")
        grants[digest] = Grant(words[0], Role[words[1].upper()])
    return grants


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(character in "0123456789abcdef" for character in text)
