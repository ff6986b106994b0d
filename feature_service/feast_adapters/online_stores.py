"""Opens the online store that feature_store.yaml names: packed rows, or any of Feast's own stores."""

from __future__ import annotations

from feast.infra.online_stores.helpers import get_online_store_from_config
from feast.repo_config import RepoConfig

from feature_service.feast_adapters.online import FeastOnlineStore
from feature_service.packed.store import PackedOnlineStore
from feature_service.stores.packed import PackedStore

OpenedStore = PackedOnlineStore | FeastOnlineStore


def open_online_store(config: RepoConfig, *, timeout: float, keep_expired: bool = False) -> OpenedStore:
    """timeout: seconds to wait for a store on the network. keep_expired: no row is dropped for its age.

    Raises StoreUnavailable when an embedded store cannot be opened; one on the network may be away.
    """
    found = get_online_store_from_config(config.online_store)
    if isinstance(found, PackedStore):
        return PackedOnlineStore(found.open_rows(config, timeout=timeout, keep_expired=keep_expired))
    return FeastOnlineStore(config, timeout=timeout)
