"""Group commit: what waits together is written together, with one flush.

One thread writes: it takes all that waits, writes it, answers, and takes what has come meanwhile. Who has his answer
often asks again at once: so the next group waits for as many as there were, but no longer than what that may save. A
lone sender waits for nobody. The queue is bounded; a full one refuses.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from prometheus_client import Histogram

from service.gate import Gate, ThreadGate
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
GATHER_WRITES, GATHER_SECONDS = 3, 0.0015  # a group waits as long as so many writes take, and no longer than that
PROBE_SECONDS = 1.0
WAIT_SECONDS = 10.0  # then the client gets a 503; what it sent may still be committed, and repeats are safe

Answer = list[Receipt | Conflict]


class _Ticket:
    """One request's submission, and the gate at which it waits for its answer."""

    __slots__ = ("abandoned", "answer", "gate", "messages")

    def __init__(self, messages: Sequence[Message], gate: Gate) -> None:
        self.messages, self.gate = messages, gate
        self.abandoned = False  # its client has been told 503: not to be written behind its back, if it is not too late
        self.answer: Answer | JournalError | None = None

    def result(self) -> Answer:
        if isinstance(self.answer, JournalError):
            raise self.answer
        if self.answer is None:
            raise JournalUnavailable(f"no flush within {WAIT_SECONDS:.0f} s")
        return self.answer


class Writer:
    """Takes submissions from wherever `gate` lets one wait. `broken` is called once when the journal cannot be trusted
    any more."""

    def __init__(
        self,
        journal: Inbox,
        *,
        queue: int,
        seconds: Histogram,
        broken: Callable[[], None],
        gate: Callable[[], Gate] = ThreadGate,
    ) -> None:
        self._journal, self._limit, self._seconds, self._broken, self._gate = journal, queue, seconds, broken, gate
        self._waiting: deque[_Ticket] = deque()
        self._bell, self._enough = threading.Event(), 1  # rung when so many wait
        self._served, self._took = 0, 0.0  # how many requests the last group held, and how long it was written
        self._began: float | None = None  # when the write under way was begun
        self.error: JournalError | None = None  # what the last group met, None when it went well
        threading.Thread(target=self._run, name="journal-writer", daemon=True).start()

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
        if isinstance(self.error, JournalBroken):
            raise self.error
        if len(self._waiting) >= self._limit:
            raise JournalBusy(f"{self._limit} requests wait already")
        ticket = _Ticket(messages, self._gate())
        self._waiting.append(ticket)
        if len(self._waiting) >= self._enough:
            self._bell.set()
        if not ticket.gate.wait(WAIT_SECONDS):
            ticket.abandoned = True
        return ticket.result()

    def _run(self) -> None:
        while self.alive:
            group: list[_Ticket] = []
            try:
                group = self._gather()
                self._commit(group)
            except Exception as error:  # nobody foresaw it: whatever the journal is now, it cannot be trusted
                log.critical("journal not written", exc_info=error)
                self._end(group, error)

    def _gather(self) -> list[_Ticket]:
        """All that waits, as far as it goes into one group; nothing when an ill journal should be asked how it is.

        Nobody posts to a gateway that says it is not ready, so no group would tell.
        """
        ill = self.error is not None or self._journal.closed_to_new
        self._await_those_of_before()
        self._await_anybody(PROBE_SECONDS if ill else None)
        group: list[_Ticket] = []
        size = 0
        while self._waiting and (not group or size + len(self._waiting[0].messages) <= GROUP_MESSAGES):
            ticket = self._waiting.popleft()
            if not ticket.abandoned:
                group.append(ticket)
                size += len(ticket.messages)
        self._served = len(group)
        return group

    def _await_those_of_before(self) -> None:
        """As many as were served, and came meanwhile: in smaller groups they would cost more flushes, and waking."""
        self._enough = self._served + len(self._waiting)
        self._bell.clear()
        if len(self._waiting) < self._enough > 1:
            self._bell.wait(min(GATHER_WRITES * self._took, GATHER_SECONDS))

    def _await_anybody(self, seconds: float | None) -> None:
        self._enough = 1
        self._bell.clear()
        while not self._waiting and self._bell.wait(seconds):
            self._bell.clear()  # rung by one who was taken along already

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
        self._took = time.perf_counter() - started
        self._seconds.observe(self._took)
        _answer(group, answers)

    def _end(self, group: list[_Ticket], error: Exception) -> None:
        """Nothing more is written; also after an error that nobody foresaw, nobody is kept waiting."""
        self.error = error if isinstance(error, JournalBroken) else JournalBroken(f"{type(error).__name__}: {error}")
        left = [*group]
        while self._waiting:
            left.append(self._waiting.popleft())
        _answer(left, [self.error] * len(left))
        self._broken()


def _answer(group: Sequence[_Ticket], answers: Sequence[Answer | JournalError]) -> None:
    for ticket, answer in zip(group, answers, strict=True):
        ticket.answer = answer
        ticket.gate.open()
