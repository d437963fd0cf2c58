"""Group commit: of the requests that wait together, one writes for all, with one flush.

The first to come leads: it writes what waits, itself included, answers the others, and hands the lead to the first of
those who have come meanwhile. So a lone request is written on its own thread, without a switch to another, and no
linger is needed: while one flush is under way the next group gathers by itself. The queue is bounded; a full one
refuses.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from prometheus_client import Histogram

from service.ports import (
    Conflict,
    Inbox,
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


class _Ticket:
    """One request's submission. Its thread waits at the gate until it is answered or has to lead."""

    __slots__ = ("answer", "gate", "leads", "messages")

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self.gate = threading.Lock()
        self.gate.acquire()
        self.leads = False
        self.answer: Answer | JournalError | None = None

    def result(self) -> Answer:
        if isinstance(self.answer, JournalError):
            raise self.answer
        if self.answer is None:
            raise JournalUnavailable(f"no flush within {WAIT_SECONDS:.0f} s")
        return self.answer


class Writer:
    """Takes submissions from any thread. `broken` is called once when the journal cannot be trusted any more."""

    def __init__(self, journal: Inbox, *, queue: int, seconds: Histogram, broken: Callable[[], None]) -> None:
        self._journal, self._limit, self._seconds, self._broken = journal, queue, seconds, broken
        self._lock = threading.Lock()
        self._waiting: deque[_Ticket] = deque()
        self._led = False  # whether somebody writes, or has been told to
        self._probed = False  # whether a thread asks the journal now and then how it is
        self._began: float | None = None  # when the write under way was begun
        self.error: JournalError | None = None  # what the last group met, None when it went well

    @property
    def alive(self) -> bool:
        """Whether it can still write."""
        return not isinstance(self.error, JournalBroken)

    @property
    def busy_seconds(self) -> float:
        """How long the write under way has taken so far; 0 when none is."""
        began = self._began
        return 0.0 if began is None else time.perf_counter() - began

    def submit(self, messages: Sequence[Message]) -> Answer:
        """One answer per message, given after the flush. Raises `JournalError`: then nothing is promised."""
        ticket = _Ticket(messages)
        with self._lock:
            if isinstance(self.error, JournalBroken):
                raise self.error
            if len(self._waiting) >= self._limit:
                raise JournalBusy(f"{self._limit} requests wait already")
            self._waiting.append(ticket)
            ticket.leads, self._led = not self._led, True
        if not ticket.leads and not ticket.gate.acquire(timeout=WAIT_SECONDS):
            self._give_up(ticket)
        if ticket.leads:
            self._lead()
        return ticket.result()

    def _give_up(self, ticket: _Ticket) -> None:
        """Its client is told 503: do not write behind its back, if it is not too late for that."""
        with self._lock:
            if not ticket.leads and ticket in self._waiting:
                self._waiting.remove(ticket)

    def _lead(self) -> None:
        """Write one group, and see to it that somebody writes the next."""
        group: list[_Ticket] = []
        try:
            group = self._gather()
            self._commit(group)
        except Exception as error:  # nobody foresaw it: whatever the journal is now, it cannot be trusted
            log.critical("journal not written", exc_info=error)
            self._end(group, error)
        finally:
            self._hand_over()

    def _gather(self) -> list[_Ticket]:
        group: list[_Ticket] = []
        size = 0
        with self._lock:
            while self._waiting and (not group or size + len(self._waiting[0].messages) <= GROUP_MESSAGES):
                ticket = self._waiting.popleft()
                group.append(ticket)
                size += len(ticket.messages)
        return group

    def _commit(self, group: list[_Ticket]) -> None:
        self._began = started = time.perf_counter()
        try:
            if not group:
                self._journal.probe()
            answers = self._journal.append([ticket.messages for ticket in group])
            self.error = next((answer for answer in answers if isinstance(answer, JournalFull)), None)
        except JournalError as error:
            log.error("journal not written", extra={"error": str(error), "requests": len(group)})
            self.error = error
            if isinstance(error, JournalBroken):
                self._end(group, error)
            else:
                _answer(group, [error] * len(group))
            return
        finally:
            self._began = None
        self._seconds.observe(time.perf_counter() - started)
        _answer(group, answers)

    def _hand_over(self) -> None:
        with self._lock:
            if self._waiting and not isinstance(self.error, JournalBroken):
                self._waiting[0].leads = True
                self._waiting[0].gate.release()
                return
            self._led = False
            ill = self.error is not None or self._journal.closed_to_new
            probe = ill and not self._probed and not isinstance(self.error, JournalBroken)
            self._probed = self._probed or probe
        if probe:
            threading.Thread(target=self._probe, name="journal-probe", daemon=True).start()

    def _probe(self) -> None:
        """While the last write failed: nobody posts to a gateway that says it is not ready, so none would tell."""
        while True:
            time.sleep(PROBE_SECONDS)
            with self._lock:
                well = self.error is None and not self._journal.closed_to_new
                if well or isinstance(self.error, JournalBroken):
                    self._probed = False
                    return
                leads, self._led = not self._led, True
            if leads:
                self._lead()

    def _end(self, group: list[_Ticket], error: Exception) -> None:
        """Nothing more is written; also after an error that nobody foresaw, nobody is kept waiting."""
        with self._lock:
            self.error = (
                error if isinstance(error, JournalBroken) else JournalBroken(f"{type(error).__name__}: {error}")
            )
            left, self._waiting = [*group, *self._waiting], deque()
        _answer(left, [self.error] * len(left))
        self._broken()


def _answer(group: Sequence[_Ticket], answers: Sequence[Answer | JournalError]) -> None:
    for ticket, answer in zip(group, answers, strict=True):
        ticket.answer = answer
        if not ticket.leads:
            ticket.gate.release()
