"""The casebook: cases, outcomes, totals and the fold's cursor in one database file, changed together or not at all.

Written by the fold alone (`service.cases.fold`, in the relay's leader); read by whoever asks. Each row holds a case's
whole state, and beside it, derived when it is saved, the few columns by which cases are looked for and counted.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from schemas.words import Stage, Standard
from service.cases.search import CaseIndex, Labels
from service.domain import case as domain
from service.domain.standards import Assessment, Rules, horizon_ms
from service.journal.sqlite import Db, Store

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE totals(name TEXT, labels TEXT, n REAL NOT NULL, PRIMARY KEY(name, labels)) WITHOUT ROWID;
CREATE TABLE senders(sender TEXT, case_id TEXT, PRIMARY KEY(sender, case_id)) WITHOUT ROWID;
CREATE TABLE cases(
  case_id TEXT PRIMARY KEY, kind TEXT NOT NULL, major TEXT NOT NULL, category TEXT NOT NULL, phase TEXT NOT NULL,
  progress TEXT NOT NULL, is_open INTEGER NOT NULL, supervision TEXT NOT NULL, campaign TEXT, campaign_phase TEXT,
  reported_at INTEGER, approved INTEGER NOT NULL, reopenings INTEGER NOT NULL, arrival TEXT, completion TEXT,
  arrival_deadline INTEGER, arrival_soon INTEGER, completion_deadline INTEGER, completion_soon INTEGER,
  due INTEGER, touched_at INTEGER NOT NULL,
  stripped INTEGER NOT NULL DEFAULT 0, state BLOB NOT NULL);
CREATE INDEX open_by_progress ON cases(kind, major, progress) WHERE is_open=1;
CREATE INDEX open_by_supervision ON cases(kind, supervision) WHERE is_open=1;
CREATE INDEX open_by_age ON cases(kind, reported_at) WHERE is_open=1;
CREATE INDEX open_in_order ON cases(case_id) WHERE is_open=1;
CREATE INDEX by_arrival_deadline ON cases(arrival_deadline, arrival_soon, kind, major)
  WHERE arrival_deadline IS NOT NULL;
CREATE INDEX by_completion_deadline ON cases(completion_deadline, completion_soon, kind, major)
  WHERE completion_deadline IS NOT NULL;
CREATE INDEX by_due ON cases(due) WHERE due IS NOT NULL;
CREATE INDEX by_phase ON cases(phase, case_id);
CREATE INDEX by_supervision ON cases(supervision, case_id);
CREATE INDEX by_campaign ON cases(campaign, case_id) WHERE campaign IS NOT NULL;
CREATE INDEX by_report ON cases(reported_at);
CREATE INDEX strippable ON cases(touched_at) WHERE is_open=0 AND stripped=0 AND due IS NULL;
"""
_COLUMNS = (
    *("case_id", "kind", "major", "category", "phase", "progress", "is_open", "supervision", "campaign"),
    *("campaign_phase", "reported_at", "approved", "reopenings", "arrival", "completion", "arrival_deadline"),
    *("arrival_soon", "completion_deadline", "completion_soon", "due", "touched_at", "stripped", "state"),
)
# Not INSERT OR REPLACE: an update touches only the indexes whose columns have changed.
_SAVE = (
    f"INSERT INTO cases({', '.join(_COLUMNS)}) VALUES({', '.join('?' * len(_COLUMNS))})"
    f" ON CONFLICT(case_id) DO UPDATE SET {', '.join(f'{name}=excluded.{name}' for name in _COLUMNS[1:])}"
)

_COUNT = "INSERT INTO totals VALUES(?1, ?2, ?3) ON CONFLICT(name, labels) DO UPDATE SET n=n+?3"


class Changes:
    """What one transaction of the casebook will change. Cases read once stay at hand; all is written at its end."""

    def __init__(self, db: Db, rules: Rules) -> None:
        self._db, self._rules = db, rules
        self._cases: dict[str, Assessment | None] = {}
        self._changed: dict[str, bool] = {}  # case_id → whether it was stripped
        self._counts: Counter[tuple[str, Labels]] = Counter()
        self._senders: set[tuple[str, str]] = set()
        self._meta: dict[str, int | str] = {}

    def get(self, case_id: str) -> Assessment | None:
        """The case as it is now."""
        if case_id not in self._cases:
            row = self._db.execute("SELECT state FROM cases WHERE case_id=?", (case_id,)).fetchone()
            self._cases[case_id] = Assessment(domain.load(orjson.loads(row[0])), self._rules) if row else None
        return self._cases[case_id]

    def put(self, assessed: Assessment, *, stripped: bool = False) -> None:
        """The case as it is from now on."""
        self._cases[assessed.case.case_id] = assessed
        self._changed[assessed.case.case_id] = stripped

    def count(self, name: str, labels: Labels, n: float = 1) -> None:
        """Add to a total."""
        self._counts[name, labels] += n  # type: ignore[assignment]  # of seconds, too

    def note_sender(self, sender: str, case_id: str) -> None:
        """Remember that this sender has reported on the case."""
        self._senders.add((sender, case_id))

    def remember(self, **meta: int | str) -> None:
        """Set what the fold must find again: `cursor`, `as_of`, …"""
        self._meta |= meta

    def save(self) -> None:
        """Write it all."""
        rows = (_row(case, stripped) for id_, stripped in self._changed.items() if (case := self._cases[id_]))
        self._db.executemany(_SAVE, rows)
        self._db.executemany("INSERT OR IGNORE INTO senders VALUES(?, ?)", self._senders)
        self._db.executemany(_COUNT, ((name, orjson.dumps(on).decode(), n) for (name, on), n in self._counts.items()))
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES(?, ?)", self._meta.items())


class Casebook(CaseIndex):
    """The casebook in `directory`, made there if it is missing and `make`. Every method may raise `JournalError`."""

    def __init__(self, directory: Path, rules: Rules, *, make: bool = True) -> None:
        self._store = Store(directory, "cases", schema=_SCHEMA, version=SCHEMA_VERSION, flush=True, make=make)
        self._rules = rules

    def close(self) -> None:
        """Close the files."""
        self._store.close()

    @contextmanager
    def changing(self) -> Iterator[Changes]:
        """One transaction, flushed and in the file that others read: the fold then lets the journal drop rows."""
        with self._store.transaction() as db:
            changes = Changes(db, self._rules)
            yield changes
            changes.save()
        self.still_here()

    def replaced(self) -> bool:
        """Whether another casebook stands in this one's place, or none."""
        return self._store.replaced()

    def still_here(self) -> None:
        """Raise `JournalMissing` or `JournalBroken` when it was replaced."""
        self._store.still_here()

    def meta(self) -> dict[str, Any]:
        """What the fold remembers."""
        return dict(self._store.read("SELECT key, value FROM meta"))

    def due(self, now_ms: int, limit: int) -> list[str]:
        """Cases that the sweep must judge by now, longest due first."""
        rows = self._store.read("SELECT case_id FROM cases WHERE due<=? ORDER BY due LIMIT ?", (now_ms, limit))
        return [case_id for (case_id,) in rows]

    def undecided(self, after: str, limit: int) -> list[str]:
        """Cases whose next instant depends on the rules, in order of their id."""
        sql = "SELECT case_id FROM cases WHERE (is_open=1 OR due IS NOT NULL) AND case_id>? ORDER BY case_id LIMIT ?"
        return [case_id for (case_id,) in self._store.read(sql, (after, limit))]

    def strippable(self, before_ms: int, limit: int) -> list[str]:
        """Closed and decided cases that nobody has reported on since `before_ms`."""
        sql = (
            "SELECT case_id FROM cases WHERE is_open=0 AND stripped=0 AND due IS NULL AND touched_at<?"
            " ORDER BY touched_at LIMIT ?"
        )
        return [case_id for (case_id,) in self._store.read(sql, (before_ms, limit))]


def _deadline(assessed: Assessment, standard: Standard) -> tuple[int | None, int | None]:
    """The deadline the case runs towards, and from when on that is soon."""
    deadline, time = assessed.running_deadline(standard), assessed.standards[standard].clock
    return (None, None) if deadline is None or time is None else (deadline, deadline - horizon_ms(time.limit_seconds))


def _row(assessed: Assessment, stripped: bool) -> tuple[Any, ...]:
    case, reported = assessed.case, assessed.case.first.get(Stage.REPORTED)
    outcomes = [one.counted and one.counted.outcome.value for one in assessed.standards.values()]
    return (
        case.case_id,
        assessed.kind,
        assessed.category[:2],
        assessed.category,
        case.phase.value,
        case.progress.value,
        case.is_open,
        case.supervision.value,
        case.campaign and case.campaign.name,
        case.campaign and case.campaign.phase,
        reported and reported.occurred_at,
        case.approval is not None,
        case.reopenings,
        *outcomes,
        *_deadline(assessed, Standard.ARRIVAL),
        *_deadline(assessed, Standard.COMPLETION),
        assessed.next_due_ms,
        max(fact.received_at for fact in case.facts),
        stripped,
        orjson.dumps(domain.dump(case)),
    )
