"""What makes one relay the leader of a journal, and what a leader does beside publishing."""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import orjson
from prometheus_client import Gauge

from service.ballast import Ballast
from service.journal import SqliteJournal
from service.metrics import RelayMetrics
from service.ports import JournalBroken, JournalFull, JournalUnavailable, PauseReason
from service.topics import TopicWatch

log = logging.getLogger(__name__)

STANDBY_SECONDS = 0.25
LEDGER_SECONDS = 5.0
CHECKPOINT_SECONDS = 0.25
TIDY_SECONDS = 60.0
PULSELESS_SECONDS = 15.0
DAY_MS = 86_400_000


class Leadership:
    """The lock that makes one relay the leader of a journal; the kernel frees it when the process dies."""

    def __init__(self, directory: Path, told: Gauge) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.leading = False
        self._told = told
        self._fd = os.open(directory / "relay.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def wait(self, stop: threading.Event) -> bool:
        """Stand by until this process leads; False when asked to stop before that."""
        told = False
        while not stop.is_set():
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    log.info("standing by, another relay leads")
                    told = True
                stop.wait(STANDBY_SECONDS)
            else:
                self.leading = True
                self._told.set(1)
                return True
        return False


class Pulse:
    """Tells the other processes, through a small file beside the journal, that the relay lives and how it fares."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "relay.json"
        self._next = 0.0
        self.last = time.time()  # when the relay's loop last turned
        self.connected = False
        self.paused: Mapping[str, PauseReason] = {}

    def beat(self, *, connected: bool, paused: Mapping[str, PauseReason]) -> None:
        """Write at most once a second; the file is replaced whole."""
        self.last, self.connected, self.paused = time.time(), connected, paused
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + 1
        status = {"at": int(time.time() * 1000), "pid": os.getpid(), "connected": connected, "paused": paused}
        try:
            self._write(orjson.dumps(status))
        except OSError as error:  # a full disk: it is the relay that empties it, and must live
            log.warning("pulse not written", extra={"error": str(error)})
            with suppress(OSError):
                os.utime(self._path)

    def _write(self, status: bytes) -> None:
        draft = self._path.with_suffix(".new")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(status)
        draft.replace(self._path)


def pulseless(directory: Path) -> bool:
    """Whether a relay has written its pulse in `directory`, and then no more for too long."""
    try:
        return time.time() - (directory / "relay.json").stat().st_mtime > PULSELESS_SECONDS
    except FileNotFoundError:
        return False


class Chores:
    """The leader's housekeeping between two turns: pulse, ledger, old receipts, free pages; cheap when none is due."""

    def __init__(
        self,
        journal: SqliteJournal,
        pulse: Pulse,
        watch: TopicWatch,
        metrics: RelayMetrics,
        ballast: Ballast,
        *,
        paused: Callable[[], Mapping[str, PauseReason]],
        serve: Callable[[Iterable[str]], None],
        dedupe_days: int,
    ) -> None:
        self._journal, self._pulse, self._watch, self._metrics = journal, pulse, watch, metrics
        self._ballast, self._paused, self._serve = ballast, paused, serve
        self._keep_ms = dedupe_days * DAY_MS
        self._checkpoint_at = 0.0
        self._count_at = 0.0
        self._tidy_at = 0.0

    def __call__(self) -> None:
        """Do what is due."""
        self._metrics.heartbeat.set_to_current_time()
        if self._journal.replaced():
            raise JournalBroken("another file stands in the journal's place")
        self._pulse.beat(connected=self._watch.reachable, paused=self._paused())
        try:
            self._checkpoint()
            self._count()
            self._tidy()
        except (JournalFull, JournalUnavailable) as error:
            log.warning("housekeeping put off", extra={"error": str(error)})

    def _checkpoint(self) -> None:
        if time.monotonic() >= self._checkpoint_at:
            self._checkpoint_at = time.monotonic() + CHECKPOINT_SECONDS
            self._journal.checkpoint()

    def _count(self) -> None:
        if time.monotonic() < self._count_at:
            return
        totals = self._journal.totals()
        if totals.mismatch:
            log.error("ledger mismatch", extra={"messages": totals.mismatch})
        self._metrics.mismatch.set(totals.mismatch)
        self._serve(self._journal.topics())
        self._count_at = time.monotonic() + LEDGER_SECONDS

    def _tidy(self) -> None:
        if time.monotonic() < self._tidy_at:
            return
        more = self._journal.forget(int(time.time() * 1000) - self._keep_ms)
        if self._journal.fill().oldest is None:
            self._journal.tidy()
        self._ballast.restore()
        self._tidy_at = time.monotonic() + (0.1 if more else TIDY_SECONDS)
