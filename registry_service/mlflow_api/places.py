"""Where the files of a version are, as paths below the artifact route: models/{name}/{number}/{path}.

Names that a URL would have to encode are given as "~" and their base64: some clients encode a path once more
than others, and a path without such characters means the same to all of them.
"""

from __future__ import annotations

import base64
import binascii
import re

from registry_service import names
from registry_service.domain import VersionRef

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_PLACE = re.compile(r"models/([^/]+)/([1-9][0-9]{0,17})(?:/(.*))?", re.DOTALL)


def of_version(ref: VersionRef) -> str:
    name = ref.model
    if not _PLAIN.fullmatch(name):
        name = "~" + base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")
    return f"models/{name}/{ref.number}"


def parse(path: str) -> tuple[VersionRef, str] | None:
    """The version, and the path below it ("" for all of it); None when it is no such place. The path below is
    only ever compared with recorded paths."""
    match = _PLACE.fullmatch(path)
    if match is None:
        return None
    name = match.group(1)
    if name.startswith("~"):
        try:
            name = base64.b64decode(
                name[1:] + "=" * (-(len(name) - 1) % 4), altchars=b"-_", validate=True
            ).decode()
        except (binascii.Error, ValueError):
            return None
    # Only what can be the name of a version is looked up.
    ref = names.version("path", f"models/{name}/versions/{match.group(2)}")
    return ref, match.group(3) or ""
