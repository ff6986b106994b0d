"""What goes on beside the requests, for as long as the server runs."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from feature_service.catalog import Catalog
from feature_service.domain import FeatureView, ViewKind
from feature_service.feast_adapters.repo import FeastRepo
from feature_service.packed.store import PackedOnlineStore
from feature_service.planning import Definitions
from feature_service.writes.merging import merge_parts
from plumbline.errors import PlumblineError
from plumbline.features.errors import StoreUnavailable

_log = logging.getLogger("plumbline.features")


async def refreshing(
    repo: FeastRepo, catalog: Catalog, store: PackedOnlineStore | None, seconds: float
) -> None:
    """Puts changed definitions in force, for as long as the server runs, whatever goes wrong in between.

    store: whose rows stay as the ttls of the definitions in force say.
    """
    held: Definitions | None = None
    while True:
        definitions = catalog.definitions
        if store is not None and held is not definitions:
            try:
                await asyncio.to_thread(store.hold, stored_views(definitions))
                held = definitions
            except StoreUnavailable as error:
                _log.warning(
                    "rows in the online store stay as the ttls before said; tried again: %s", error.message
                )
            except Exception:  # noqa: BLE001 - the outermost frame of its task, which must outlive any fault
                _log.exception("rows in the online store stay as the ttls before said; tried again")
        await asyncio.sleep(seconds)
        try:
            if await asyncio.to_thread(repo.changed):
                await asyncio.to_thread(lambda: catalog.replace(repo.load()))
        except Exception:  # noqa: BLE001 - the outermost frame of its task, which must outlive any fault
            _log.exception("cannot read the registry; the definitions read before stay in force")


async def sweeping(store: PackedOnlineStore, catalog: Catalog, seconds: float) -> None:
    """Removes rows past their ttl, for as long as the server runs, whatever goes wrong in between."""
    while True:
        await asyncio.sleep(seconds)
        for view in stored_views(catalog.definitions):
            try:
                now = round(datetime.now(UTC).timestamp() * 1_000_000)
                removed = await asyncio.to_thread(store.sweep, view, now)
            except PlumblineError as error:
                _log.warning("rows of %s past their ttl are not removed: %s", view.name, error)
                continue
            except Exception:  # noqa: BLE001 - the outermost frame of its task, which must outlive any fault
                _log.exception("rows of %s past their ttl are not removed", view.name)
                continue
            if removed:
                _log.info("removed %d rows of %s past their ttl", removed, view.name)


async def merging(catalog: Catalog, seconds: float) -> None:
    """Merges the parts that pushes add to local sources, for as long as the server runs."""
    while True:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(merge_parts, catalog.definitions)


def stored_views(definitions: Definitions) -> list[FeatureView]:
    """The views that have rows."""
    return [view for view in definitions.views.values() if view.kind is not ViewKind.ON_DEMAND]
