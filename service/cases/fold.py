"""The journal's second reader, in the relay's leader: folds reports into cases and sweeps their deadlines.

On a thread of its own: it never waits for Kafka and nothing waits for it. What it changes and how far it has read are
one transaction of the casebook, so a kill, a restart or an outage neither loses nor repeats an outcome. Deadlines are
judged as of the report that is folded in, not by a clock that has run ahead of it: after an outage the totals are what
they would have been without it. A report or case that cannot be worked in is set aside, and tried again when the
casebook is opened anew.
"""

import logging
import threading
import time
from collections.abc import Callable

from service.cases.casebook import Casebook
from service.cases.changes import Changes, Item
from service.cases.news import NOTHING, Told, news, told
from service.domain.case import Case, Fact, essence
from service.domain.fact import read, unpack
from service.domain.standards import Assessment, Rules
from service.ports import Entry, Feed, JournalFull, JournalUnavailable

log = logging.getLogger(__name__)

FOLD_MESSAGES = 2000  # in one transaction: what is behind catches up in a few large ones, each with its flush
# From one look to the next at least: each one that finds something costs a flush, for which intake waits. A little less
# than a relay with a backlog turns at most, or what was late once would be late ever after.
LOOK_SECONDS = 0.045
WAIT_FOR_NEWS_SECONDS = 0.06  # after that, when nobody says that there is something new
SWEEP_SECONDS = 1.0
STRIP_SECONDS = 60.0
JOIN_SECONDS = 10.0
WAIT_SECONDS = 1.0  # after a transaction that could not be written
BROKEN_SECONDS = 10.0  # before a casebook that cannot be trusted is opened anew


class CaseFold:
    """Reads the journal behind its cursor; `folded` is how far the journal may forget. `clock` gives Unix ms;
    `relieve` makes room on a full disk, telling whether there was any to make."""

    def __init__(
        self,
        journal: Feed,
        casebook: Callable[[], Casebook],
        rules: Rules,
        rules_id: str,
        *,
        clock: Callable[[], int],
        strip_after_ms: int,
        relieve: Callable[[], bool] = lambda: False,
    ) -> None:
        self._journal, self._open, self._rules, self._clock = journal, casebook, rules, clock
        self._thread: threading.Thread | None = None
        self._news = threading.Event()
        self._rules_id, self._strip_after_ms, self._relieve = rules_id, strip_after_ms, relieve
        self._sweep_at = self._strip_at = 0.0
        self._cursor = 0
        self.casebook: Casebook | None = None  # None until it is opened, and for good when it cannot be
        self.folded = 0
        self.last_run: float | None = None  # Unix seconds of the last sweep
        self.lag = 0  # messages accepted and not yet folded

    def start(self, stop: threading.Event) -> None:
        """Fold and sweep on a thread of its own until `stop`."""
        self._thread = threading.Thread(target=self.run, args=(stop,), name="cases", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """There is something new. Whoever else reads it says so as he has read it: what both have had can leave the
        journal at once, and what the cases come to later is written twice."""
        self._news.set()

    def join(self) -> None:
        """Wait for the transaction under way."""
        if self._thread is not None:
            self._thread.join(JOIN_SECONDS)

    def run(self, stop: threading.Event) -> None:
        """Fold and sweep until `stop`; a casebook that cannot be trusted is opened anew, which may find it sound.

        It must not end: what is settled stays in the journal until the cases have it too.
        """
        while not stop.is_set():
            try:
                if self.casebook is None:
                    self.open()
                self._news.clear()
                began = time.monotonic()
                if not self.turn():
                    stop.wait(began + LOOK_SECONDS - time.monotonic())
                    self._news.wait(WAIT_FOR_NEWS_SECONDS)
            except (JournalFull, JournalUnavailable) as error:
                log.warning("casebook not written", extra={"error": str(error)})
                if not (isinstance(error, JournalFull) and self._relieve()):
                    stop.wait(WAIT_SECONDS)
            except Exception as error:
                log.critical("casebook broken, cases stand still", exc_info=error, extra={"error": str(error)})
                self._close()
                stop.wait(BROKEN_SECONDS)

    def _close(self) -> None:
        casebook, self.casebook = self.casebook, None
        if casebook is not None:
            casebook.close()

    def open(self) -> None:
        """Find the place to go on from; judge anew what other rules would judge otherwise."""
        self._casebook = self._open()
        try:
            self._catch_up()
        except BaseException:
            self._casebook.close()
            raise
        self.folded = self._cursor
        self.casebook = self._casebook

    def _catch_up(self) -> None:
        meta = self._casebook.meta()
        same = meta.get("journal_id") == self._journal.journal_id
        self._cursor = meta.get("cursor", 0) if same else 0
        with self._casebook.changing() as changes:
            changes.remember(journal_id=self._journal.journal_id, cursor=self._cursor)
        _, gone = self._journal.marks()
        while self._cursor < gone:  # an old copy of the casebook: the journal need not have what lies between
            self._mend(gone)
        if meta.get("rules") != self._rules_id:
            self._reschedule()
            with self._casebook.changing() as changes:
                changes.remember(rules=self._rules_id)
        self._retry()

    def turn(self) -> bool:
        """Fold what has come, sweep what is due; whether there is surely more to fold."""
        self._casebook.still_here()
        as_of = self._clock()  # before the journal is read: what is accepted by then is folded, unless there is more
        messages = self._journal.after(self._cursor, FOLD_MESSAGES)
        more = len(messages) == FOLD_MESSAGES
        if messages:
            self._fold(messages, as_of, upto=messages[-1].seq)
        last, _ = self._journal.marks()
        self.lag = max(0, last - self._cursor)
        now = time.monotonic()
        if now >= self._sweep_at:
            self._sweep(min(as_of, messages[-1].received_at) if more else as_of)
            self._sweep_at = now + SWEEP_SECONDS
        if now >= self._strip_at:
            self._strip_at = now + (0 if self._strip() else STRIP_SECONDS)
        return more

    # ---- folding ----

    def _mend(self, gone: int) -> None:
        """Fold what the journal still has up to `gone`, and count what it has not."""
        kept = [message for message in self._journal.after(self._cursor, FOLD_MESSAGES) if message.seq <= gone]
        upto = kept[-1].seq if len(kept) == FOLD_MESSAGES else gone
        if missing := upto - self._cursor - len(kept):
            log.error("cases have a gap", extra={"from": self._cursor + 1, "to": upto, "messages": missing})
        self._fold(kept, self._clock(), upto=upto, missing=missing)

    def _fold(self, messages: list[Entry], now_ms: int, *, upto: int, missing: int = 0) -> None:
        """In one transaction, that ends with the cursor at `upto`."""

        def digest(changes: Changes, message: Entry) -> None:
            self._digest(changes, message, min(now_ms, message.received_at))

        def finish(changes: Changes) -> None:
            if missing:
                changes.count([("gaps", (), missing)])
            if messages:
                changes.remember(as_of=messages[-1].received_at)
            changes.remember(cursor=upto)

        self._casebook.each(messages, digest, finish)
        self.folded = self._cursor = upto

    def _digest(self, changes: Changes, message: Entry, now_ms: int) -> None:
        fact = fact_of(message)
        case = changes.get(fact.case_id)
        if case is None:
            self._tell(changes, Assessment(Case.of(fact), self._rules), NOTHING, now_ms)
            return
        if case.is_due(now_ms):  # as the sweep would have, had it come by
            self._tell(changes, case, told(case), now_ms)
        known = told(case)
        if case.add(fact):
            self._tell(changes, case, known, now_ms)

    def _tell(self, changes: Changes, case: Assessment, known: Told, now_ms: int) -> None:
        """The case judged; what has become true of it is added to the totals."""
        changes.count(news(known, case, case.judge(now_ms), case.measure()))
        changes.put(case)

    # ---- sweeping ----

    def _sweep(self, now_ms: int) -> None:
        def judge(changes: Changes, case_id: str) -> None:
            if (case := changes.get(case_id)) is not None:
                self._tell(changes, case, told(case), now_ms)
                if case.is_due(now_ms):
                    raise ValueError("due still, after it was judged")

        while due := self._casebook.due(now_ms, FOLD_MESSAGES):
            self._casebook.each(due, judge)
        self.last_run = time.time()

    def _strip(self) -> bool:
        def strip(changes: Changes, case_id: str) -> None:
            if (case := changes.get(case_id)) is not None:
                changes.put(Assessment(essence(case.case), self._rules), stripped=True)

        old = self._casebook.strippable(self._clock() - self._strip_after_ms, FOLD_MESSAGES)
        if old:
            self._casebook.each(old, strip)
        return bool(old)

    def _reschedule(self) -> None:
        """Other limits, another grace: every undecided case has another next instant."""
        after = ""
        while some := self._casebook.undecided(after, FOLD_MESSAGES):
            self._casebook.each(some, _assess)
            after = some[-1]

    # ---- what was set aside ----

    def _retry(self) -> None:
        """What could not be worked in may be by now: by another version, or under other rules."""

        def take_up(changes: Changes, item: Item) -> None:
            if isinstance(item, str):
                _assess(changes, item)
            else:
                self._digest(changes, item, item.received_at)
            changes.take_up(item)

        after, some = self._casebook.aside(0, FOLD_MESSAGES)
        while some:
            self._casebook.each(some, take_up)
            after, some = self._casebook.aside(after, FOLD_MESSAGES)


def _assess(changes: Changes, case_id: str) -> None:
    """The case as the rules have it now: all that is looked for is worked out again."""
    if (case := changes.get(case_id)) is not None:
        changes.put(case)


def fact_of(message: Entry) -> Fact:
    """What a message in the journal says of its case. Raises KeyError, TypeError or ValueError."""
    seq, case_id, received_at, sender, report_id, packed, value = message
    said = unpack(packed) if packed is not None else read(value or b"")
    at, kind, category, stage, supervision, campaign, own_only = said
    told = (case_id, at, received_at, seq, sender, report_id, kind, category, stage, supervision, campaign, own_only)
    return tuple.__new__(Fact, told)  # sooner than Fact(…)
