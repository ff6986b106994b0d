"""The service as a whole."""

from __future__ import annotations

from registry_service.collecting import Collector
from registry_service.servicers.calls import Calls
from registry_service.servicers.evidence import EvidenceMethods
from registry_service.servicers.files import FileMethods
from registry_service.servicers.models import AliasMethods, ModelMethods
from registry_service.servicers.versions import VersionMethods
from registry_service.transfers import Transfers


class Registry(ModelMethods, VersionMethods, FileMethods, AliasMethods, EvidenceMethods):
    """plumbline.registry.v1.ModelRegistryService, in the parts its resources make."""

    def __init__(self, calls: Calls, transfers: Transfers, collector: Collector) -> None:
        self._calls, self._transfers, self._collector = calls, transfers, collector
