"""What the offline store does not do, said in words."""

from __future__ import annotations

from typing import Any, NoReturn

from feast.infra.offline_stores.offline_store import OfflineStore


class WithoutMonitoring(OfflineStore):
    """Feast's monitoring computes in Python on `pull_all`, but has no place here to keep its metrics."""

    @staticmethod
    def ensure_monitoring_tables(*_: Any, **__: Any) -> NoReturn:
        _refuse()

    @staticmethod
    def save_monitoring_metrics(*_: Any, **__: Any) -> NoReturn:
        _refuse()

    @staticmethod
    def query_monitoring_metrics(*_: Any, **__: Any) -> NoReturn:
        _refuse()

    @staticmethod
    def clear_monitoring_baseline(*_: Any, **__: Any) -> NoReturn:
        _refuse()


def _refuse() -> NoReturn:
    raise ValueError(
        "this offline store keeps no metrics of Feast's monitoring: run `feast monitor` with a configuration "
        "whose offline_store is duckdb; it reads the same files"
    )
