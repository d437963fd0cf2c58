"""The casebook: cases, outcomes, totals and the fold's cursor in one database file, changed together or not at all.

Written by the fold alone (`service.cases.fold`, in the relay's leader); read by whoever asks. Each row holds a case's
whole state, and beside it, derived when it is saved, the few columns by which cases are looked for and counted.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from schemas.words import Stage
from service.domain import case as domain
from service.domain.case import Case, Phase, Standard
from service.domain.standards import Rules, clock, horizon_ms, next_due_ms, running_deadline
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

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """Which cases are wanted; None: no matter."""

    phase: str | None = None
    kind: str | None = None
    supervision: str | None = None
    campaign: str | None = None
    overdue: bool | None = None
    due_soon: bool | None = None
    sender: str | None = None  # only cases this sender has reported on


@dataclass(frozen=True, slots=True)
class Period:
    """Which cases a period's figures are about: those reported in [since, until), in epoch milliseconds."""

    since: int
    until: int
    campaign: str | None = None
    campaign_phase: str | None = None
    supervision: str | None = None


class Page:
    """The casebook inside one transaction. Cases read once stay at hand and are written once, at its end."""

    def __init__(self, db: Db, rules: Rules) -> None:
        self._db, self._rules = db, rules
        self._cases: dict[str, Case | None] = {}
        self._changed: dict[str, bool] = {}  # case_id → whether it was stripped

    def get(self, case_id: str) -> Case | None:
        """The case as it is now."""
        if case_id not in self._cases:
            row = self._db.execute("SELECT state FROM cases WHERE case_id=?", (case_id,)).fetchone()
            self._cases[case_id] = domain.load(orjson.loads(row[0])) if row else None
        return self._cases[case_id]

    def put(self, case: Case, *, stripped: bool = False) -> None:
        """The case as it is from now on."""
        self._cases[case.case_id] = case
        self._changed[case.case_id] = stripped

    def count(self, name: str, labels: Labels, n: float = 1) -> None:
        """Add to a total."""
        self._db.execute(
            "INSERT INTO totals VALUES(?1, ?2, ?3) ON CONFLICT(name, labels) DO UPDATE SET n=n+?3",
            (name, orjson.dumps(labels).decode(), n),
        )

    def note_sender(self, sender: str, case_id: str) -> None:
        """Remember that this sender has reported on the case."""
        self._db.execute("INSERT OR IGNORE INTO senders VALUES(?, ?)", (sender, case_id))

    def remember(self, **meta: int | str) -> None:
        """Set what the fold must find again: `cursor`, `as_of`, …"""
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES(?, ?)", meta.items())

    def save(self) -> None:
        """Write every changed case."""
        for case_id, stripped in self._changed.items():
            if (case := self._cases[case_id]) is not None:
                self._db.execute(_SAVE, _row(case, self._rules, stripped))


class Casebook:
    """The casebook in `directory`, made there if it is missing. Every method may raise `JournalError`."""

    def __init__(self, directory: Path, rules: Rules) -> None:
        self._store = Store(directory, "cases", schema=_SCHEMA, version=SCHEMA_VERSION, flush=True)
        self._rules = rules
        self.close, self.tidy = self._store.close, self._store.tidy

    @contextmanager
    def changing(self) -> Iterator[Page]:
        """One transaction, flushed: the fold relies on it before it lets the journal drop a row."""
        with self._store.transaction() as db:
            page = Page(db, self._rules)
            yield page
            page.save()

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

    def case(self, case_id: str, sender: str | None = None) -> Case | None:
        """One case; with `sender`, only if that sender has reported on it."""
        known = " AND EXISTS (SELECT 1 FROM senders WHERE sender=?2 AND case_id=?1)" if sender else ""
        bindings = (case_id, sender) if sender else (case_id,)
        rows = self._store.read(f"SELECT state FROM cases WHERE case_id=?1{known}", bindings)
        return domain.load(orjson.loads(rows[0][0])) if rows else None

    def search(self, wanted: Search, *, now_ms: int, after: str, limit: int) -> list[Case]:
        """At most `limit` cases with an id beyond `after`, in order of their ids."""
        source, searched = _source(wanted)
        conditions, bindings = ["case_id>?2"], [now_ms, after]
        for name, condition in searched.items():
            if (value := getattr(wanted, name)) is not None:
                bindings.append(value)
                conditions.append(condition.format(len(bindings)))
        asked = {what: getattr(wanted, what) for what in _RUNNING}
        conditions += [_either(what, value) for what, value in asked.items() if value is not None]
        sql = f"SELECT state FROM {source} WHERE {' AND '.join(conditions)} ORDER BY case_id LIMIT {limit:d}"
        return [domain.load(orjson.loads(state)) for (state,) in self._store.read(sql, tuple(bindings))]

    # ---- counting ----

    def totals(self) -> dict[str, dict[Labels, float]]:
        """Every total ever counted, by name and labels."""
        found: dict[str, dict[Labels, float]] = {}
        for name, labels, n in self._store.read("SELECT name, labels, n FROM totals"):
            found.setdefault(name, {})[tuple(orjson.loads(labels))] = n
        return found

    def open_by_progress(self) -> Mapping[Labels, int]:
        """(kind, major, progress) → open cases."""
        return self._counts("SELECT kind, major, progress, COUNT(*) FROM cases WHERE is_open=1 GROUP BY 1, 2, 3")

    def open_by_supervision(self) -> Mapping[Labels, int]:
        """(kind, supervision) → open cases."""
        return self._counts("SELECT kind, supervision, COUNT(*) FROM cases WHERE is_open=1 GROUP BY 1, 2")

    def running(self, what: str, standard: Standard, now_ms: int) -> Mapping[Labels, int]:
        """(kind, major) → open cases that are `overdue`, or `due_soon`, by this standard."""
        condition = _RUNNING[what].format(standard)
        return self._counts(f"SELECT kind, major, COUNT(*) FROM cases WHERE {condition} GROUP BY 1, 2", (now_ms,))

    def oldest_open(self) -> Mapping[str, int]:
        """kind → when its oldest open case was reported."""
        sql = "SELECT kind, MIN(reported_at) FROM cases WHERE is_open=1 AND reported_at IS NOT NULL GROUP BY kind"
        return dict(self._store.read(sql))

    def figures(self, period: Period, now_ms: int) -> list[dict[str, Any]]:
        """A period's counts, one row per campaign phase and kind: exact, as outcomes outlive retention."""
        conditions = "reported_at>=?2 AND reported_at<?3"
        bindings: list[Any] = [now_ms, period.since, period.until]
        for column in ("campaign", "campaign_phase", "supervision"):
            if (value := getattr(period, column)) is not None:
                bindings.append(value)
                conditions += f" AND {column}=?{len(bindings)}"
        names = ("campaign_phase", "kind", *_FIGURES)
        sums = ", ".join(f"COUNT(*) FILTER (WHERE {what})" for what in _FIGURES.values())
        sql = f"SELECT campaign_phase, kind, {sums} FROM cases WHERE {conditions} GROUP BY 1, 2 ORDER BY 1 DESC, 2"
        return [dict(zip(names, row, strict=True)) for row in self._store.read(sql, tuple(bindings))]

    def _counts(self, sql: str, bindings: tuple[Any, ...] = ()) -> dict[Labels, int]:
        return {tuple(labels): n for *labels, n in self._store.read(sql, bindings)}


_SEARCHED = {
    **{column: f"{column}=?{{0}}" for column in ("phase", "kind", "supervision", "campaign")},
    "sender": "EXISTS (SELECT 1 FROM senders WHERE sender=?{0} AND case_id=cases.case_id)",
}
_OPEN_PHASES = {*Phase} - {Phase.APPROVED, Phase.CANCELLED}
_FIGURES = {
    "reported": "1",
    "approved": "approved",
    "cancelled": "phase='cancelled'",
    "arrival_met": "arrival='met'",
    "arrival_breached": "arrival='breached'",
    "completion_met": "completion='met'",
    "completion_breached": "completion='breached'",
    "overdue_unfinished": "completion_deadline IS NOT NULL AND completion_deadline<?1",
    "reworked": "reopenings>0",
}
_RUNNING = {  # ?1 is now; the partial indexes on the deadlines serve these
    "overdue": "{0}_deadline IS NOT NULL AND {0}_deadline<?1",
    "due_soon": "{0}_deadline IS NOT NULL AND {0}_deadline>=?1 AND {0}_soon<=?1",
}


def _source(wanted: Search) -> tuple[str, Mapping[str, str]]:
    """Where to look, and by what: whoever asks for something open must not wait for all that was closed in years."""
    if wanted.phase in _OPEN_PHASES:
        return "cases INDEXED BY by_phase", _SEARCHED
    if wanted.overdue or wanted.due_soon:
        return "cases INDEXED BY open_in_order", _SEARCHED
    if wanted.sender is not None:
        return "senders CROSS JOIN cases USING(case_id)", _SEARCHED | {"sender": "senders.sender=?{0}"}
    return "cases", _SEARCHED


def _either(what: str, wanted: bool) -> str:
    either = " OR ".join(f"({_RUNNING[what].format(standard)})" for standard in Standard)
    return f"is_open=1 AND ({either})" if wanted else f"NOT ({either})"


def _deadline(case: Case, standard: Standard, rules: Rules) -> tuple[int | None, int | None]:
    """The deadline the case runs towards, and from when on that is soon."""
    deadline = running_deadline(case, standard, rules)
    time = clock(case, standard, rules)
    return (None, None) if deadline is None or time is None else (deadline, deadline - horizon_ms(time.limit_seconds))


def _row(case: Case, rules: Rules, stripped: bool) -> tuple[Any, ...]:
    reported = case.first.get(Stage.REPORTED)
    outcomes = {counted.standard: counted.outcome.value for counted in case.counted}
    return (
        case.case_id,
        case.kind,
        case.category[:2],
        case.category,
        case.phase.value,
        case.progress.value,
        case.is_open,
        case.supervision.value,
        case.campaign and case.campaign.name,
        case.campaign and case.campaign.phase,
        reported and reported.occurred_at,
        case.approval is not None,
        case.reopenings,
        outcomes.get(Standard.ARRIVAL),
        outcomes.get(Standard.COMPLETION),
        *_deadline(case, Standard.ARRIVAL, rules),
        *_deadline(case, Standard.COMPLETION, rules),
        next_due_ms(case, rules),
        max(fact.received_at for fact in case.facts),
        stripped,
        orjson.dumps(domain.dump(case)),
    )
