"""Group commit: one thread writes to the journal what many requests submit, a flush for all that wait together.

No linger: while one flush is under way the next group gathers by itself. The queue is bounded; a full one refuses.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress

from prometheus_client import Histogram

from service.ports import (
    Conflict,
    Journal,
    JournalBroken,
    JournalBusy,
    JournalError,
    JournalFull,
    JournalUnavailable,
    Message,
    Receipt,
)

log = logging.getLogger(__name__)

GROUP_MESSAGES = 2000  # at most this many in one transaction, but for a single larger submission
PROBE_SECONDS = 1.0
WAIT_SECONDS = 10.0  # then the client gets a 503; what it sent may still be committed, and repeats are safe

Answer = list[Receipt | Conflict]
Ticket = tuple[Sequence[Message], "Future[Answer]"]


class Writer:
    """Takes submissions from any thread. `broken` is called once when the journal cannot be trusted any more."""

    def __init__(self, journal: Journal, *, queue: int, seconds: Histogram, broken: Callable[[], None]) -> None:
        self._journal, self._limit, self._seconds, self._broken = journal, queue, seconds, broken
        self._waiting: deque[Ticket] = deque()
        self._news = threading.Condition()
        self.error: JournalError | None = None  # what the last group met, None when it went well
        self._began: float | None = None  # when the write under way was begun
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def busy_seconds(self) -> float:
        """How long the write under way has taken so far; 0 when none is."""
        began = self._began
        return 0.0 if began is None else time.perf_counter() - began

    def submit(self, messages: Sequence[Message]) -> Answer:
        """One answer per message, given after the flush. Raises `JournalError`: then nothing is promised."""
        ticket: Ticket = (messages, Future())
        with self._news:
            if isinstance(self.error, JournalBroken):
                raise self.error
            if len(self._waiting) >= self._limit:
                raise JournalBusy(f"{self._limit} requests wait already")
            self._waiting.append(ticket)
            self._news.notify()
        try:
            return ticket[1].result(WAIT_SECONDS)
        except FutureTimeout as error:
            ticket[1].cancel()
            raise JournalUnavailable(f"no flush within {WAIT_SECONDS:.0f} s") from error

    def _run(self) -> None:
        group: list[Ticket] = []
        try:
            while not isinstance(self.error, JournalBroken):
                group = self._gather()
                self._commit(group)
        finally:  # also after an error that nobody foresaw: a dead writer keeps nobody waiting, nor looks alive
            self._end(group)
            self._broken()

    def _end(self, group: list[Ticket]) -> None:
        with self._news:
            error = self.error if isinstance(self.error, JournalBroken) else JournalBroken("the writer ended")
            self.error = error
            left, self._waiting = [*group, *self._waiting], deque()
        for _, future in left:
            _settle(future, error)

    def _gather(self) -> list[Ticket]:
        group: list[Ticket] = []
        size = 0
        with self._news:
            # While the last write failed, an empty group comes by: nobody posts to a gateway that says it is not ready.
            probing = self.error is not None or self._journal.closed_to_new
            self._news.wait_for(lambda: self._waiting, PROBE_SECONDS if probing else None)
            while self._waiting and (not group or size + len(self._waiting[0][0]) <= GROUP_MESSAGES):
                ticket = self._waiting.popleft()
                if not ticket[1].cancelled():  # its client was told 503 long ago: do not write behind its back
                    group.append(ticket)
                    size += len(ticket[0])
        return group

    def _commit(self, group: list[Ticket]) -> None:
        self._began = started = time.perf_counter()
        try:
            if not group:
                self._journal.probe()
            answers = self._journal.append([messages for messages, _ in group])
            self.error = next((answer for answer in answers if isinstance(answer, JournalFull)), None)
        except JournalError as error:
            self.error = error
            log.error("journal not written", extra={"error": str(error), "requests": len(group)})
            for _, future in group:
                _settle(future, error)
            return
        finally:
            self._began = None
        self._seconds.observe(time.perf_counter() - started)
        for (_, future), answer in zip(group, answers, strict=True):
            _settle(future, answer)


def _settle(future: "Future[Answer]", answer: Answer | JournalError | JournalFull) -> None:
    with suppress(InvalidStateError):  # its client stopped waiting
        if isinstance(answer, JournalError):
            future.set_exception(answer)
        else:
            future.set_result(answer)
