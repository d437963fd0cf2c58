"""The case fold as the relay's leader runs it, on a journal and a casebook on disk, under a clock of the test's own."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
from msgspec.structs import replace

from schemas.times import format_time
from schemas.words import Standard, Supervision
from service.cases.casebook import Casebook
from service.cases.changes import Changes
from service.cases.fold import CaseFold
from service.cases.search import Labels
from service.domain.case import Case, Fact, Outcome
from service.domain.standards import Assessment, Rules, Transition
from service.journal.journal import SqliteJournal
from service.journal.side import Journal
from service.ports import Conflict, Delivery, JournalFull, Message, Receipt
from tests.unit.case_stories import RULES, T0
from tests.unit.messages import message

DAY_MS = 86_400_000
KEEP_MS = 90 * DAY_MS
FOR_EVER = 10**15  # a moment after all others
MEMORY = Path("/dev/shm")  # where a flush costs nothing: kills are played here by copying files, not by the disk
SUMMED = ("standard", "corrections")


class Interrupted(BaseException):
    """A stop in the middle of a transaction, which is nobody's fault."""


class Desk:
    """Journal, casebook and fold; `now` is the fold's time (epoch ms). Close it at the end."""

    def __init__(self, rules: Rules = RULES, rules_id: str = "one") -> None:
        self.rules, self.rules_id, self.now = rules, rules_id, T0
        self._place = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self._lives = 0
        self.open()

    def open(self) -> None:
        """Start, as a relay that has become the leader."""
        self.journal, casebook = self.stores()
        self.fold = CaseFold(
            self.journal,
            casebook,
            self.rules,
            self.rules_id,
            clock=lambda: self.now,
            strip_after_ms=KEEP_MS,
        )
        self.fold.open()

    def stores(self) -> tuple[Journal, Callable[[], Casebook]]:
        """A journal and a casebook, as they were left."""
        journal = SqliteJournal(self.directory, limit=1 << 28, flush=False)
        return journal, lambda: Casebook.in_files(self.directory, self.rules)

    @property
    def directory(self) -> Path:
        return Path(self._place.name) / str(self._lives)

    @property
    def book(self) -> Casebook:
        assert self.fold.casebook is not None
        return self.fold.casebook

    def close(self) -> None:
        self.let_go()
        self.remove()

    def remove(self) -> None:
        """Leave nothing of the files, which are closed."""
        self._place.cleanup()

    def kill(self) -> None:
        """As after SIGKILL: go on from what the files hold at this moment, nothing closed, nothing checkpointed."""
        self._move()
        self.open()

    def restart(self, rules: Rules, rules_id: str) -> None:
        """The same, and start again with other rules."""
        self._move()
        self.rules, self.rules_id = rules, rules_id
        self.open()

    def _move(self) -> None:
        before = self.directory
        self._lives += 1
        shutil.copytree(before, self.directory, ignore=shutil.ignore_patterns("*-shm"))
        self.let_go()
        shutil.rmtree(before)

    def let_go(self) -> None:
        """Close the files, for a test that does something to them; `open` goes on."""
        self.journal.close()
        self.book.close()

    def accept(self, *facts: Fact) -> list[Receipt | Conflict]:
        """Post them as one batch."""
        (answer,) = self.journal.append([[as_message(fact) for fact in facts]])
        assert not isinstance(answer, JournalFull)
        return answer

    def accept_raw(self, value: bytes, case_id: str = "raw") -> None:
        """A message that no intake would make."""
        self.journal.append([[message(f"raw-{case_id}", case_id=case_id, value=value)]])

    def turn(self) -> None:
        """Turn until everything accepted is folded, and what is due is swept."""
        while self.fold.turn():
            pass

    def settle(self, *seqs: int) -> None:
        """Kafka has acknowledged these."""
        self.journal.hand_over({}, [Delivery(seq, 0, seq, self.now) for seq in seqs], self.fold.folded)

    def case(self, case_id: str = "case") -> Case:
        found = self.book.case(case_id)
        assert found is not None
        return found

    def told(self) -> Counter[tuple[Standard, Outcome, bool]]:
        """Every outcome ever counted, over all labels: standard, outcome, whether it was a correction."""
        found: Counter[tuple[Standard, Outcome, bool]] = Counter()
        for name in SUMMED:
            for (*_, standard, outcome), n in self.book.totals().get(name, {}).items():
                found[Standard(standard), Outcome(outcome), name == "corrections"] += int(n)
        return found

    def total(self, name: str) -> float:
        """One total, over all labels."""
        return sum(self.book.totals().get(name, {}).values())

    def totals(self) -> dict[str, dict[Labels, float]]:
        return self.book.totals()


def as_message(fact: Fact) -> Message:
    """The message that intake would make of the report."""
    said = {
        "occurred_at": format_time(fact.occurred_at),
        "kind": fact.kind,
        "category": fact.category,
        "stage": fact.stage,
        "supervision": fact.supervision or Supervision.NONE,
    }
    campaign = {"campaign": fact.campaign._asdict()} if fact.campaign else {}
    packed = (fact.occurred_at, fact.kind, fact.category, fact.stage, fact.supervision or Supervision.NONE)
    named = fact.campaign and list(fact.campaign)
    made = message(
        fact.report_id,
        sender=fact.sender,
        case_id=fact.case_id,
        value=orjson.dumps(said | campaign),
        received_at=fact.received_at,
    )
    return replace(made, fact=orjson.dumps((*packed, named, True))) if fact.own_only else made


def steps(told: list[Transition]) -> Counter[tuple[Standard, Outcome, bool]]:
    """As `Desk.told`."""
    return Counter((step.standard, step.outcome, step.is_correction) for step in told)


@contextmanager
def interrupted(changes: int) -> Iterator[None]:
    """The next transaction breaks off after so many changes of a case."""
    with pytest.MonkeyPatch.context() as patch:
        real, left = Changes.put, iter(range(changes))

        def put(page: Changes, case: Assessment, *, stripped: bool = False) -> None:
            if next(left, None) is None:
                raise Interrupted
            real(page, case, stripped=stripped)

        patch.setattr(Changes, "put", put)
        yield


@contextmanager
def hurried(messages: int = 500) -> Iterator[None]:
    """Every turn sweeps and strips, and folds so many messages in one transaction."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.cases.fold.SWEEP_SECONDS", 0.0)
        patch.setattr("service.cases.fold.STRIP_SECONDS", 0.0)
        patch.setattr("service.cases.fold.FOLD_MESSAGES", messages)
        yield
