"""A Feast repository: its configuration, its registry, and what is written to the registry."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from feast import FeatureStore
from feast import FeatureView as FeastView
from feast.data_source import PushSource
from feast.errors import FeastModuleImportError
from feast.feature_view import DUMMY_ENTITY_NAME
from feast.labeling.label_view import LabelView
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigError, RepoConfig, load_repo_config

from feature_service.digests import service_digest
from feature_service.domain import FeatureView
from feature_service.feast_adapters import definitions as feast_definitions
from feature_service.feast_adapters.registry_file import use_whole_files
from feature_service.planning import Definitions
from servicekit.server import StartupError

#: Two writes closer to each other than this may leave a file of one size with one time.
_SETTLED_NS = 50_000_000
_VARIABLE = re.compile(r"\$\{(\w+)\}")

_log = logging.getLogger("plumbline.features")


def load_config(repo: Path) -> RepoConfig:
    """The repository's feature_store.yaml, variables of the environment expanded as Feast does.

    Raises StartupError with what is wrong and what to do.
    """
    file = repo / "feature_store.yaml"
    if not file.is_file():
        raise StartupError(
            f"{file} does not exist; point --repo or PLUMBLINE_FEATURES_REPO at a Feast repository"
        )
    unset = sorted(set(_VARIABLE.findall(_values(file))))
    if unset:
        # Feast would take the name, braces and all, for that of a folder.
        raise StartupError(f"{file} needs {', '.join(unset)}; set the variables of the environment it names")
    try:
        config = load_repo_config(repo.absolute(), file)
        _ = config.offline_store  # Feast imports what it names only now
        use_whole_files(config.registry)
        return config
    except FeastModuleImportError as error:
        extra = "; install the extra: pip install 'plumbline[spark]'" if "spark" in str(error) else ""
        raise StartupError(f"{file} names what cannot be imported: {error}{extra}") from error
    except FeastConfigError as error:
        raise StartupError(f"{file} is not valid: {error}") from error


def _values(file: Path) -> str:
    """The text of a YAML file with its variables expanded, without the comments."""
    lines = os.path.expandvars(file.read_text()).splitlines()
    return "\n".join(re.sub(r"(^|\s)#.*", "", line) for line in lines)


class FeastRepo:
    """Reads definitions from Feast's registry and records materializations there. Thread-safe."""

    def __init__(
        self, config: RepoConfig, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.config, self._now = config, now
        self.folder = Path(config.repo_path or ".")
        self._lock = threading.RLock()
        self._seen: tuple[int, int, int] | None = None
        self._told_gone = False
        registry = self._registry_file()
        if registry is not None:
            registry.parent.mkdir(parents=True, exist_ok=True)
        self._store = FeatureStore(repo_path=str(self.folder), config=config)

    def changed(self) -> bool:
        """Whether the registry may differ from what `load` saw last; always for one that is no local file.

        Not for a file that is gone: the definitions read before stay in force.
        """
        stamp = self._stamp()
        if stamp == (0, 0, 0):
            if not self._told_gone:
                _log.warning(
                    "the registry %s is gone; the definitions read before stay in force",
                    self._registry_file(),
                )
            self._told_gone = True
            return False
        self._told_gone = False
        return stamp is None or stamp != self._seen

    def load(self) -> Definitions:
        """All definitions of the project, read from the registry now."""
        with self._lock:
            # Looked at before it is read; and unknown again if that fails, or if another write may leave the
            # same stamp.
            stamp, self._seen = self._stamp(), None
            if stamp is not None and stamp[0] > time.time_ns() - _SETTLED_NS:
                stamp = None
            self._store.refresh_registry()  # type: ignore[no-untyped-call]
            project, registry = self.config.project, self._store.registry
            found: list[FeastView | LabelView] = [
                *registry.list_feature_views(project, allow_cache=True),
                *registry.list_stream_feature_views(project, allow_cache=True),
                *registry.list_label_views(project, allow_cache=True),
            ]
            views = {view.name: feast_definitions.feature_view(view, project, self.folder) for view in found}
            odfvs = registry.list_on_demand_feature_views(project, allow_cache=True)
            for odfv in odfvs:
                views[odfv.name] = feast_definitions.on_demand_view(odfv, project, views)
            versions = self._versions([*found, *odfvs], views)
            known = views | versions
            entities = {
                entity.name: feast_definitions.entity(entity, views)
                for entity in registry.list_entities(project, allow_cache=True)
                if entity.name != DUMMY_ENTITY_NAME
            }
            services = {}
            for service in registry.list_feature_services(project, allow_cache=True):
                plain = feast_definitions.feature_service(service, project)
                lost = [item.view for item in plain.projections if item.view not in known]
                if lost:
                    _log.warning("feature service %s reads views that are gone: %s", plain.name, lost)
                    continue
                named = tuple(replace(item, view=known[item.view].name) for item in plain.projections)
                plain = replace(plain, projections=named)
                services[plain.name] = replace(plain, digest=service_digest(plain, known))
            sources = {
                source.name: tuple(
                    view.name
                    for view in found
                    if view.stream_source is not None and view.stream_source.name == source.name
                )
                for source in registry.list_data_sources(project, allow_cache=True)
                if isinstance(source, PushSource)
            }
            self._seen = stamp
            return Definitions(project, entities, views, services, sources, versions)

    def _versions(
        self, found: Sequence[FeastView | LabelView | OnDemandFeatureView], views: Mapping[str, FeatureView]
    ) -> dict[str, FeatureView]:
        """The versions of views by view@vN: the present ones, and those before where the repository has it
        that versions are read."""
        versions = {}
        for view in found:
            present = view.current_version_number or 0
            for number, old in self._history(view.name):
                if number != present:
                    versions[f"{view.name}@v{number}"] = feast_definitions.earlier_version(
                        old, number, self.config.project, self.folder, views
                    )
            versions[f"{view.name}@v{present}"] = views[view.name]
        return versions

    def _history(self, name: str) -> Iterator[tuple[int, Any]]:
        """The recorded versions of a view, with their numbers."""
        if not getattr(self.config.registry, "enable_online_feature_view_versioning", False):
            return
        project, registry = self.config.project, self._store.registry
        try:
            numbers = [
                int(item["version_number"]) for item in registry.list_feature_view_versions(name, project)
            ]
        except NotImplementedError:  # a registry that keeps none
            return
        for number in numbers:
            yield number, registry.get_feature_view_by_version(name, project, number, True)

    def last_end(self, view: FeatureView) -> datetime | None:
        """See ports.MaterializationLog."""
        with self._lock:
            found = self._store.registry.get_feature_view(view.name, self.config.project, allow_cache=False)
        return trusted_end(found.materialization_intervals, found.last_updated_timestamp, self._now())

    def record(self, view: FeatureView, start: datetime, end: datetime) -> None:
        """See ports.MaterializationLog."""
        with self._lock, self.writing():
            registry = self._store.registry
            current = registry.get_feature_view(view.name, self.config.project, allow_cache=False)
            registry.apply_materialization(current, self.config.project, start, end)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keeps other writers of a registry file away: Feast reads and writes it as a whole."""
        registry = self._registry_file()
        if registry is None:
            yield
            return
        descriptor = os.open(registry.with_name(registry.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _registry_file(self) -> Path | None:
        settings = self.config.registry
        path = str(getattr(settings, "path", settings))
        if getattr(settings, "registry_type", "file") != "file" or "://" in path:
            return None
        return self.folder / path

    def _stamp(self) -> tuple[int, int, int] | None:
        registry = self._registry_file()
        if registry is None:
            return None
        try:
            found = registry.stat()
        except FileNotFoundError:
            return (0, 0, 0)
        return (found.st_mtime_ns, found.st_size, found.st_ino)


def trusted_end(
    intervals: Sequence[tuple[datetime, datetime]], updated: datetime | None, now: datetime
) -> datetime | None:
    """Up to when a view is online, by the intervals in the order in which they were recorded.

    Feast records an end in the future as it is asked for, and takes the greatest end for the last. Here ends
    after now, and ends after the view was last updated, do not count: they lay in the future when they were
    recorded. Of the others the one recorded last counts, so that one that has passed meanwhile does not
    hide what came after it; at worst, rows are gone over again.
    """
    for _, end in reversed(intervals):
        known = _aware(end)
        if known <= now and (updated is None or known <= _aware(updated)):
            return known
    return None


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
