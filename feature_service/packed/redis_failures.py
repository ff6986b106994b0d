"""What a failure of a Redis server means, and what there is to do about it."""

from __future__ import annotations

from feature_service.packed.resp import RedisBusy
from plumbline.features.errors import StorageFull, StoreUnavailable

#: How the server's answer begins, or what redis-py says for it; and what to do.
_CURES = (
    (
        ("NOAUTH", "Authentication required", "client already authenticate"),
        "it wants a password: set it in connection_string, password=…",
    ),
    (
        ("WRONGPASS", "invalid username-password", "ERR invalid password", "invalid password", "ERR AUTH"),
        "it refuses the user or the password of connection_string",
    ),
    (
        ("NOPERM", "has no permissions", "no permissions to"),
        "its user may not do this: it needs the commands MGET, GET, SET, DEL, UNLINK, SCAN, EVALSHA and "
        "SCRIPT LOAD on all keys",
    ),
    (
        ("READONLY", "can't write against a read only"),
        "it is a replica: name the primary in connection_string",
    ),
    (("LOADING", "Redis is loading"), "it is reading its data after a start; try again"),
    (("MISCONF",), "it cannot save to its disk and refuses writes: see its log"),
    (
        (
            "CLUSTERDOWN",
            "The cluster is down",
            "Hash slot not served",
            "not covered",
            "no node of the cluster",
            "Redis Cluster cannot be connected",
        ),
        "nodes of the cluster are missing: start them, or have replicas take over their slots",
    ),
)


def failure(address: str, error: Exception) -> StorageFull | StoreUnavailable:
    """The error to raise. It has the server's own words in it, which are without passwords."""
    said, metadata = str(error), {"store": address}
    if said.startswith("OOM ") or "command not allowed when used memory" in said:
        return StorageFull(
            f"the online store {address} has no memory left: {said}; raise its maxmemory", metadata=metadata
        )
    for signs, cure in _CURES:
        if any(sign in said for sign in signs):
            return StoreUnavailable(f"the online store {address} refuses: {cure} ({said})", metadata=metadata)
    cure = "" if isinstance(error, RedisBusy) else "; see that it runs, and that connection_string names it"
    return StoreUnavailable(f"the online store {address} cannot be reached: {said}{cure}", metadata=metadata)
