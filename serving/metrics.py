"""What serving counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.models import LoadedModel, Slot

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class PredictionMetrics:
    """Predictions by version, and which version answers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows = Counter(
            "plumbline_predictions", "Rows predicted.", ("model_version",), registry=registry
        )
        self._seconds = Histogram(
            "plumbline_prediction_seconds",
            "Time of a prediction request, features included.",
            ("model_version",),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._serving = Gauge(
            "plumbline_model_info",
            "1 for the version that answers for a name now, 0 for one that did.",
            ("name", "model_version", "sha256"),
            registry=registry,
            # The samples of several processes add up to one.
            multiprocess_mode="livemax",
        )
        self._refused = Gauge(
            "plumbline_model_refused",
            "1 while what a name stands for in the registry is refused or cannot be fetched, else 0.",
            ("model",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._answered = Gauge(
            "plumbline_registry_last_answer_timestamp_seconds",
            "When the registry last answered this server, in Unix time; 0: never.",
            registry=registry,
            multiprocess_mode="livemax",
        )

    def observe(self, model_version: str, rows: int, seconds: float) -> None:
        """Counts one request that was answered."""
        self._rows.labels(model_version).inc(rows)
        self._seconds.labels(model_version).observe(seconds)

    def changed(self, slot: Slot, previous: LoadedModel | None) -> None:
        """Notes that a slot has another version than before."""
        if previous is not None:
            self._serving.labels(slot.ref.name, previous.release.version, previous.release.sha256).set(0)
        if slot.loaded is not None:
            now = slot.loaded.release
            self._serving.labels(slot.ref.name, now.version, now.sha256).set(1)

    def noted(self, slot: Slot) -> None:
        """Notes whether what a slot's name stands for is refused."""
        self._refused.labels(slot.ref.name).set(int(slot.refused))

    def registry_answered(self) -> None:
        """Notes that the registry answered now."""
        self._answered.set_to_current_time()
