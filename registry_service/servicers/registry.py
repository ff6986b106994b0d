"""The service as a whole."""

from __future__ import annotations

from registry_service.calls import Calls
from registry_service.news import News
from registry_service.reading import CachedReads
from registry_service.servicers.changes import ChangeMethods
from registry_service.servicers.evidence import EvidenceMethods
from registry_service.servicers.files import FileMethods
from registry_service.servicers.lineage import LineageMethods
from registry_service.servicers.models import AliasMethods, ModelMethods
from registry_service.servicers.versions import VersionMethods
from registry_service.transfers import Transfers


class Registry(
    ModelMethods,
    VersionMethods,
    FileMethods,
    AliasMethods,
    EvidenceMethods,
    LineageMethods,
    ChangeMethods,
):
    """plumbline.registry.v1.ModelRegistryService, in the parts its resources make."""

    def __init__(self, calls: Calls, reads: CachedReads, news: News, transfers: Transfers) -> None:
        self._calls, self._reads, self._news, self._transfers = calls, reads, news, transfers
