"""What a leader does beside publishing: the housekeeping of its journal, between two turns."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from service.metrics import RelayMetrics
from service.ports import Clock, JournalBroken, JournalFull, JournalUnavailable, Outbox, PauseReason, TopicWatch, Upkeep
from service.relay.pulse import Pulse

log = logging.getLogger(__name__)

LEDGER_SECONDS = 5.0
CHECKPOINT_SECONDS = 0.25
TIDY_SECONDS = 60.0
DAY_MS = 86_400_000


class Journal(Upkeep, Outbox, Protocol):
    """The sides of it that a leader looks after."""


class Chores:
    """The leader's housekeeping between two turns: pulse, ledger, old receipts, free pages; cheap when none is due."""

    def __init__(
        self,
        journal: Journal,
        pulse: Pulse,
        watch: TopicWatch,
        metrics: RelayMetrics,
        *,
        paused: Callable[[], Mapping[str, PauseReason]],
        serve: Iterable[Callable[[Iterable[str]], None]],
        relieve: Callable[[], bool],
        restore: Callable[[], None],
        dedupe_days: int,
        clock: Clock,
    ) -> None:
        self._journal, self._pulse, self._watch, self._metrics = journal, pulse, watch, metrics
        self._relieve, self._restore, self._paused, self._serve = relieve, restore, paused, serve
        self._clock = clock
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
            if isinstance(error, JournalFull):
                self._relieve()

    def _checkpoint(self) -> None:
        if self._clock.monotonic() >= self._checkpoint_at:
            self._checkpoint_at = self._clock.monotonic() + CHECKPOINT_SECONDS
            self._journal.checkpoint()

    def _count(self) -> None:
        if self._clock.monotonic() < self._count_at:
            return
        totals = self._journal.totals()
        if totals.mismatch:
            log.error("ledger mismatch", extra={"messages": totals.mismatch})
        self._metrics.mismatch.set(totals.mismatch)
        topics = self._journal.topics()
        for serve in self._serve:
            serve(topics)
        self._count_at = self._clock.monotonic() + LEDGER_SECONDS

    def _tidy(self) -> None:
        if self._clock.monotonic() < self._tidy_at:
            return
        more = self._journal.forget(int(self._clock.time() * 1000) - self._keep_ms)
        if self._journal.fill().oldest is None:
            self._journal.tidy()
        self._restore()
        self._tidy_at = self._clock.monotonic() + (0.1 if more else TIDY_SECONDS)
