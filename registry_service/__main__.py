"""`python -m registry_service`: the model registry as a process."""

import sys

from registry_service.app import build
from registry_service.settings import RegistrySettings
from servicekit.server import run

if __name__ == "__main__":
    sys.exit(run("registry_service", RegistrySettings, build))
