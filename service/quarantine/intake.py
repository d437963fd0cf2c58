"""The web process's side: refusals are gathered as they come, and masked and written by a thread of its own.

What waits is bounded by bytes; what does not fit, and what a full disk does not take, is counted and left out.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from prometheus_client import Counter

from schemas import rejected
from schemas.report import Problem
from service.journal.sqlite import JournalCorrupt
from service.ports import JournalError
from service.quarantine.store import Quarantine, Reject, discard, exists

log = logging.getLogger(__name__)

TURN_SECONDS = 0.5
FORGET_SECONDS = 600.0
MOST_WAITING = 8 << 20  # bytes
DAY_MS = 86_400_000


class _Refused(NamedTuple):
    at: int
    sender: str
    reason: str
    problems: Sequence[Problem]
    report: bytes  # as JSON


class QuarantineDesk:
    """Keeps them in `directory`, in the file that `open` gives, once there is something to do: what is wrong with it
    stops nothing else. `edition` is the catalogue's; `counted` has the label `result`: kept, dropped."""

    def __init__(
        self,
        directory: Path,
        counted: Counter,
        *,
        open: Callable[[], Quarantine],
        edition: str,
        keep_days: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory, self._open = directory, open
        self._quarantine: Quarantine | None = None
        self._clock, self._edition = clock, edition
        self._kept, self._dropped = counted.labels("kept"), counted.labels("dropped")
        self._keep_ms = keep_days * DAY_MS
        self._waiting: deque[_Refused] = deque()
        self._bytes = 0
        self._forget_at = 0.0
        self._lock = threading.Lock()  # held for an addition, never while anything waits

    def refused(self, sender: str, report: Mapping[str, Any], reason: str, problems: Sequence[Problem]) -> None:
        """Take note of it; from any thread or greenlet, without waiting for anything."""
        given = orjson.dumps(report)
        with self._lock:
            if self._bytes + len(given) > MOST_WAITING:
                self._dropped.inc()
                return
            self._bytes += len(given)
            self._waiting.append(_Refused(int(self._clock() * 1000), sender, reason, problems, given))

    def start(self) -> None:
        """Write from a thread of its own."""
        threading.Thread(target=self._run, name="quarantine", daemon=True).start()

    def turn(self) -> None:
        """Mask and write what waits; drop what is too old."""
        with self._lock:
            taken, self._waiting, self._bytes = self._waiting, deque(), 0
        try:
            if taken or exists(self._directory):
                self._write(taken)
        except JournalError as error:
            self._dropped.inc(len(taken))
            log.warning("quarantine not written", extra={"error": str(error), "reports": len(taken)})
            self._close(error)

    def _write(self, taken: Sequence[_Refused]) -> None:
        if self._quarantine is not None and self._quarantine.replaced():  # another web process found it damaged
            self._quarantine.close()
            self._quarantine = None
        quarantine = self._quarantine = self._quarantine or self._open()
        if taken and quarantine.scarce():
            self._dropped.inc(len(taken))
        elif taken:
            gone = quarantine.keep([self._reject(one) for one in taken])
            self._kept.inc(len(taken))
            if gone:
                log.info("quarantine full, the oldest gave way", extra={"reports": gone})
        if self._clock() >= self._forget_at:
            self._forget_at = self._clock() + FORGET_SECONDS
            quarantine.forget(int(self._clock() * 1000) - self._keep_ms)

    def _close(self, error: JournalError) -> None:
        quarantine, self._quarantine = self._quarantine, None
        if quarantine is not None:
            quarantine.close()
        if isinstance(error, JournalCorrupt):
            log.error("quarantine damaged, begun anew")
            discard(self._directory)

    def _reject(self, one: _Refused) -> Reject:
        kept = rejected.kept(orjson.loads(one.report))
        build = partial(
            rejected.build, kept, sender=one.sender, reason=one.reason, problems=one.problems, edition=self._edition
        )
        digest = blake2b(build(at_ms=0), digest_size=16).digest()
        return Reject(
            digest=digest,
            at=one.at,
            sender=one.sender,
            report_id=kept.report_id,
            case_id=kept.case_id,
            reason=one.reason,
            codes=" ".join(sorted({problem.reason for problem in one.problems})),
            faithful=kept.faithful,
            headers=rejected.headers(id_=digest.hex(), sender=one.sender, at_ms=one.at),
            value=build(at_ms=one.at),
        )

    def _run(self) -> None:
        while True:
            time.sleep(TURN_SECONDS)
            self.turn()
