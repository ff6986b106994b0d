"""Feast's Spark session, with the settings that exact joins need, and the errors of Spark as ours."""

from __future__ import annotations

import logging
import os
import re
import shutil
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from feast.infra.offline_stores.contrib.spark_offline_store.spark import (
    get_spark_session_or_start_new_with_repoconfig,
)
from feast.repo_config import RepoConfig
from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from feature_service.stores.remote import is_remote, local_path, shown
from servicekit.server import StartupError

_log = logging.getLogger("plumbline.features")

_PATTERNS = re.compile(r"[\\{}\[\]*?]")

#: Every other value of these gives other answers, or none where there should be an error.
_REQUIRED = {
    # Times without a zone are UTC, here as everywhere.
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
        if not _has_java():
            raise StartupError(
                "offline_store: spark needs Java 17 or newer; none was found. Install it (Debian: apt-get "
                "install openjdk-17-jre-headless) or set JAVA_HOME."
            )
        #: Held while a join is planned: Feast's store takes the session that was active last in the process.
        self._planning = threading.Lock()
        self._claiming = threading.Lock()
        self._claimed: set[str] = set()
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

    @contextmanager
    def claim(self, uri: str) -> Iterator[bool]:
        """Whether nobody else of this process writes to a place; meanwhile nobody else will."""
        with self._claiming:
            free = uri not in self._claimed
            self._claimed.add(uri)
        try:
            yield free
        finally:
            if free:
                self._claimed.discard(uri)

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


def spark_uri(uri: str) -> str:
    """A location as Hadoop's file systems know it. Raises ValueError for one that they do not."""
    if not is_remote(uri):
        return f"file:{local_path(uri)}"
    if uri.startswith("s3+"):
        raise ValueError(
            f"{shown(uri)}: Spark takes no endpoint from a URI; write s3://… and set "
            "spark.hadoop.fs.s3a.endpoint in offline_store.spark_conf"
        )
    return "s3a://" + uri.removeprefix("s3://") if uri.startswith("s3://") else uri


def as_named(uri: str) -> str:
    """A location for Spark's readers, which take some characters of a name for patterns otherwise."""
    return _PATTERNS.sub(r"\\\g<0>", uri)


def said(error: BaseException) -> str:
    """What an error says, without Spark's plans and stack traces."""
    text = str(error)
    if isinstance(error, Py4JJavaError):
        cause = error.java_exception
        while cause.getCause() is not None:
            cause = cause.getCause()
        text = str(cause.toString())
    line = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    if "TIMESTAMP(NANOS" in line:
        line += " (Spark reads no nanoseconds: write the file with microseconds)"
    if "No FileSystem for scheme" in line or (".hadoop.fs." in line and "ClassNotFound" in line):
        line += (
            " (Spark lacks the jars of this storage: add them by offline_store.spark_conf, docs/scaling.md)"
        )
    return line


def _has_java() -> bool:
    home = os.environ.get("JAVA_HOME")
    return bool(home and Path(home, "bin", "java").exists()) or shutil.which("java") is not None
