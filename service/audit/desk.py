"""What the web process tells the audit log: who was not let in. No request waits for the disk.

The first refusal of its sort is written within half a second; the same again (address, key, reason) within a minute
becomes one line with its number, and what comes from ever more addresses one line for all of them: so nobody can fill
the disk by knocking. What cannot be written is kept, shown by `/readyz`, and written once the disk takes it.
"""

import logging
import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.util import Finalize
from typing import NamedTuple

from prometheus_client import Gauge

from schemas.times import format_time
from service.audit.trail import AuditError, Event, Result, Trail, What

log = logging.getLogger(__name__)

TURN_SECONDS = 0.5
WINDOW_SECONDS = 60.0
MOST_SORTS = 100  # lines of a window
LEAST_FREE = 1 << 16  # bytes of the disk, below which it is as good as full; the journal stops long before
UNWRITTEN = "audit_unwritten"
_KEY = re.compile("gg_([0-9a-f]{8})")


class Sort(NamedTuple):
    """Refusals that are told together."""

    what: What
    who: str
    origin: str
    reason: str


class Times(NamedTuple):
    """When one sort was met first and last (Unix ms), and how often."""

    first: int
    last: int
    number: int


class Desk:
    """Gathers refusals from any thread or greenlet, and writes them from one of its own."""

    def __init__(self, trail: Trail, unwritten: Gauge, *, clock: Callable[[], float] = time.time) -> None:
        self._trail, self._clock, self._unwritten = trail, clock, unwritten
        self._lock = threading.Lock()  # held for the look at a dictionary, never while anything waits
        self._new: dict[Sort, Times] = {}
        self._told: set[Sort] = set()  # sorts that have their line in this window already
        self._window_ends = 0.0
        self.failed = False

    def refused(self, status: int, reason: str, environ: Mapping[str, str]) -> None:
        """Somebody got a 401 or 403. Of a key only its id is told, which is no secret."""
        key = _KEY.search(environ.get("HTTP_AUTHORIZATION", "") or environ.get("HTTP_X_APP_KEY", ""))
        what = What.AUTHENTICATION if status == 401 else What.AUTHORISATION
        address = environ.get("gridgov.client") or environ.get("REMOTE_ADDR") or "-"
        self._gather(Sort(what, f"key {key[1]}" if key else "-", address, reason))

    def ailment(self) -> str | None:
        """What `/readyz` should mention."""
        return UNWRITTEN if self.failed else None

    def start(self) -> None:
        """Write from a thread of its own, and what is left at the end of the process."""
        threading.Thread(target=self._run, name="audit", daemon=True).start()
        # Not `atexit`: the server's worker is a child of multiprocessing, which ends without it.
        Finalize(None, self.turn, kwargs={"everything": True}, exitpriority=0)

    def turn(self, *, everything: bool = False) -> None:
        """Write what is due: sorts that have no line yet, and all of them when a window ends."""
        now = self._clock()
        with self._lock:
            if everything or now >= self._window_ends:
                self._window_ends, self._told = now + WINDOW_SECONDS, set()
            due = {sort: self._new.pop(sort) for sort in [*self._new] if sort not in self._told}
            self._told |= due.keys()
        try:
            if due:
                self._trail.write(*(_event(sort, times) for sort, times in due.items()))
            elif self._full():
                raise OSError("the disk is full")
            self._tell(failed=False)
        except (AuditError, OSError) as error:
            self._put_back(due)
            self._tell(failed=True, error=str(error))

    def _gather(self, sort: Sort) -> None:
        now = int(self._clock() * 1000)
        with self._lock:
            if sort not in self._new and len(self._new) + len(self._told) >= MOST_SORTS and sort not in self._told:
                sort = sort._replace(who="-", origin="others")
            known = self._new.get(sort, Times(now, now, 0))
            self._new[sort] = Times(known.first, now, known.number + 1)

    def _put_back(self, due: Mapping[Sort, Times]) -> None:
        with self._lock:
            self._told -= due.keys()
            for sort, times in due.items():
                more = self._new.get(sort, Times(times.first, times.last, 0))
                self._new[sort] = Times(times.first, more.last, times.number + more.number)

    def _full(self) -> bool:
        directory = self._trail.directory
        return shutil.disk_usage(directory if directory.exists() else directory.parent).free < LEAST_FREE

    def _tell(self, *, failed: bool, error: str = "") -> None:
        if failed and not self.failed:
            log.error("audit log not written", extra={"error": error})
        self.failed = failed
        with self._lock:
            self._unwritten.set(sum(times.number for times in self._new.values()) if failed else 0)

    def _run(self) -> None:
        while True:
            time.sleep(TURN_SECONDS)
            self.turn()


def _event(sort: Sort, times: Times) -> Event:
    repeated = {"times": times.number, "until": format_time(times.last)} if times.number > 1 else {}
    return Event(times.first, sort.who, sort.origin, sort.what, Result.REFUSED, {"reason": sort.reason, **repeated})
