"""Whether the web process can do its work, and what of the rest it should mention. Nothing outside is asked."""

import time
from collections.abc import Callable
from typing import Any, Protocol

from service.ops import HANG_SECONDS, Health, Readiness
from service.ports import Fill, JournalError, JournalFull, JournalUnavailable

SLOW_SECONDS = 5  # a write that takes longer is one that no client waits for
PULSE_SECONDS = 10  # a relay's file older than this: it is not running, or hangs
SOFT_MARK = 0.70  # of the journal's room
OLD_SECONDS = 60  # a pending message older than this is worth a word


class Journal(Protocol):
    """What is asked of the journal."""

    @property
    def closed_to_new(self) -> bool:
        """Whether it takes no new reports."""

    def fill(self) -> Fill:
        """How full it is."""


class Writer(Protocol):
    """What is asked of its writer."""

    @property
    def error(self) -> JournalError | None:
        """What the last write met."""

    @property
    def alive(self) -> bool:
        """Whether it can still write."""

    @property
    def busy_seconds(self) -> float:
        """How long the write under way has taken."""


class Keys(Protocol):
    """What is asked of the keys."""

    @property
    def problem(self) -> str | None:
        """Why they are not those of the file."""


class WebHealth:
    """Reads the journal; `heard` gives what the relay's last pulse told, or raises."""

    def __init__(self, journal: Journal, writer: Writer, heard: Callable[[], Any], keys: Keys) -> None:
        self._journal, self._writer, self._keys, self._heard = journal, writer, keys, heard

    def alive(self) -> bool:
        """Whether this process can still write at all."""
        return self._writer.alive and self._writer.busy_seconds < HANG_SECONDS

    def ready(self) -> Readiness:
        """Unready when a report would get a 503 now; degraded when reports are kept but do not reach Kafka."""
        if isinstance(self._writer.error, JournalFull) or self._journal.closed_to_new:
            return Readiness(Health.UNREADY, ("journal_full",))
        if self._writer.error is not None or self._writer.busy_seconds > SLOW_SECONDS:
            return Readiness(Health.UNREADY, ("journal_unavailable",))
        try:
            fill = self._journal.fill()
        except JournalUnavailable:  # a server that is away can be neither read nor written
            return Readiness(Health.UNREADY, ("journal_unavailable",))
        except JournalError:
            return Readiness(Health.UNREADY, ("journal_unreadable",))
        if fill.scarce:  # others have filled the disk; nobody need post first to be told
            return Readiness(Health.UNREADY, ("journal_full",))
        reasons = self._around()
        if fill.used >= fill.limit * SOFT_MARK:
            reasons.append("journal_filling")
        if fill.oldest is not None and time.time() - fill.oldest / 1000 > OLD_SECONDS:
            reasons.append("backlog_old")
        if self._keys.problem is not None:
            reasons.append("keys_not_reloaded")
        if fill.parked:
            reasons.append("messages_parked")
        return Readiness(Health.DEGRADED if reasons else Health.READY, tuple(reasons))

    def _around(self) -> list[str]:
        try:
            pulse = self._heard()
            if time.time() - pulse["at"] / 1000 > PULSE_SECONDS:
                return ["relay_silent"]
            reasons = [] if pulse["connected"] else ["kafka_unreachable"]
            return reasons + [f"topic_{why}:{name}" for name, why in sorted(pulse["paused"].items())]
        except (JournalError, OSError, ValueError, LookupError, TypeError, AttributeError):  # none, or a strange one
            return ["relay_silent"]
