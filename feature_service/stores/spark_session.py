"""Feast's Spark session, with the settings that exact joins need, and the errors of Spark as ours."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from feast.infra.offline_stores.contrib.spark_offline_store.spark import (
    get_spark_session_or_start_new_with_repoconfig,
)
from feast.repo_config import RepoConfig
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from servicekit.server import StartupError

_log = logging.getLogger("plumbline.features")

#: Every other value of these gives other answers, or none where there should be an error.
_REQUIRED = {
    # Feast's SQL writes times without a zone.
    "spark.sql.session.timeZone": "UTC",
    # A cast that does not fit is an error instead of a null.
    "spark.sql.ansi.enabled": "true",
    # Columns `a` and `A` are two.
    "spark.sql.caseSensitive": "true",
}
#: Results hold microseconds, and days before 1582 stay what they are.
_SESSION = _REQUIRED | {
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # What the names of partition folders mean is declared, not guessed.
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
}


class FeastSpark:
    """One Spark application, shared by the joins of a process. Close it, or its executors go on."""

    def __init__(self, config: RepoConfig) -> None:
        """Starts Spark as `offline_store.spark_conf` says. Raises StartupError."""
        self.config = config
        options: Any = config.offline_store
        given = dict(options.spark_conf or {})
        for name, value in _REQUIRED.items():
            if given.get(name, value).lower() != value.lower():
                raise StartupError(
                    f"feature_store.yaml: offline_store.spark_conf sets {name} to {given[name]!r}; joins are "
                    f"exact with {value} only. Remove it."
                )
        if time.timezone or time.daylight:
            # Spark hands the bounds of the entity rows to Feast in the process's zone, and Feast takes them
            # for UTC: rows at the ends of the range would be missing.
            raise StartupError(
                f"offline_store: spark needs a process in UTC, this one is in {time.tzname[0]}: Feast's "
                "Spark store takes the process's time for UTC and would lose rows. Start it with TZ=UTC."
            )
        if not _has_java():
            raise StartupError(
                "offline_store: spark needs Java 17 or newer; none was found. Install it (Debian: apt-get "
                "install openjdk-17-jre-headless) or set JAVA_HOME."
            )
        #: Held while a join is planned: Feast's store takes the session that was active last in the process.
        self._planning = threading.Lock()
        try:
            self._session = get_spark_session_or_start_new_with_repoconfig(options)
        except (PySparkException, Py4JError) as error:
            raise StartupError(f"Spark cannot be started: {error}") from error
        context = self._session.sparkContext
        _log.info("Spark %s on %s", context.version, context.master)

    def close(self) -> None:
        """Ends the Spark application."""
        self._session.stop()

    def session(self) -> SparkSession:
        """A session with tables and settings of its own."""
        session = self._session.newSession()
        for name, value in _SESSION.items():
            session.conf.set(name, value)
        return session

    @contextmanager
    def planning(self, session: SparkSession) -> Iterator[None]:
        """Meanwhile Feast's Spark code uses this session, and nobody else plans."""
        with self._planning, warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # "experimental", in every call
            session.createDataFrame([], "nothing int")  # makes it the active one
            yield

    def exists(self, uri: str) -> bool:
        """Whether there is a file or folder, on any of Hadoop's file systems."""
        path, system = self._path(uri)
        return bool(system.exists(path))

    def remove(self, uri: str) -> None:
        """Removes a folder, if it is there and can be."""
        with suppress(Py4JError):
            path, system = self._path(uri)
            system.delete(path, True)

    def run_as(self, group: str, description: str) -> None:
        """Jobs that this thread starts can be cancelled by the name of the group."""
        self._session.sparkContext.setJobGroup(group, description, interruptOnCancel=True)

    def cancel(self, group: str) -> None:
        """Cancels what runs in a group; from any thread."""
        self._session.sparkContext.cancelJobGroup(group)

    def done(self, group: str) -> float:
        """The share of the tasks known so far in a group that are finished."""
        tracker = self._session.sparkContext.statusTracker()
        finished = known = 0
        for job in tracker.getJobIdsForGroup(group):
            info = tracker.getJobInfo(job)
            for stage in info.stageIds if info else ():
                found = tracker.getStageInfo(stage)
                if found:
                    finished += found.numCompletedTasks
                    known += found.numTasks
        return finished / known if known else 0.0

    def _path(self, uri: str) -> tuple[Any, Any]:
        jvm: Any = self._session._jvm
        path = jvm.org.apache.hadoop.fs.Path(uri)
        java: Any = self._session.sparkContext._jsc
        return path, path.getFileSystem(java.hadoopConfiguration())


def _has_java() -> bool:
    home = os.environ.get("JAVA_HOME")
    return bool(home and Path(home, "bin", "java").exists()) or shutil.which("java") is not None
