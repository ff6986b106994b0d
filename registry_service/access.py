"""What a token must allow for each method of the registry."""

from __future__ import annotations

from servicekit.access import Role

_READS = ("Get", "List", "Search", "Resolve", "Download", "Watch", "Find", "Compare", "Export", "Check")
_HTTP_READS = ("get", "search", "get-latest-versions", "get-download-uri", "get-alias", "artifacts")
#: What decides over others: rules, and where the registry sends what happens. Verifying reads every byte.
_ADMIN = frozenset(
    {
        "SetPromotionPolicy",
        "ClearPromotionPolicy",
        "CollectGarbage",
        "VerifyIntegrity",
        "CreateWebhook",
        "UpdateWebhook",
        "DeleteWebhook",
        "TestWebhook",
    }
)


def needed(method: str) -> Role:
    """method: its full name, as gRPC has it; of HTTP, with the last part of the path."""
    name = method.rpartition("/")[2]
    if name in _ADMIN:
        return Role.ADMIN
    return Role.READ if name.startswith(_READS) or name in _HTTP_READS else Role.WRITE
