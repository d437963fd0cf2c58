"""What one transaction of the casebook changes, gathered in memory and written at its end."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import orjson

from schemas.words import Stage, Standard
from service.cases.news import Amount
from service.cases.search import Labels
from service.domain import case as domain
from service.domain.standards import Assessment, Rules, horizon_ms
from service.journal.store import Db, Store
from service.ports import Entry

COLUMNS = (
    *("case_id", "owner", "kind", "major", "category", "phase", "progress", "is_open", "supervision", "campaign"),
    *("campaign_phase", "reported_at", "approved", "reopenings", "arrival", "completion", "arrival_deadline"),
    *("arrival_soon", "completion_deadline", "completion_soon", "due", "touched_at", "stripped", "state"),
)
# Not INSERT OR REPLACE: an update touches only the indexes whose columns have changed.
_SAVE = (
    f"INSERT INTO cases({', '.join(COLUMNS)}) VALUES({', '.join('?' * len(COLUMNS))})"
    f" ON CONFLICT(case_id) DO UPDATE SET {', '.join(f'{name}=excluded.{name}' for name in COLUMNS[1:])}"
)

_STATES = "SELECT case_id, state FROM cases WHERE case_id IN ({listed})"
_COUNT = "INSERT INTO totals VALUES(?, ?, ?) ON CONFLICT(name, labels) DO UPDATE SET n=totals.n+excluded.n"
_REMEMBER = "INSERT INTO meta VALUES(?, ?) ON CONFLICT(key) DO UPDATE SET value=excluded.value"
_MARKS = ", ".join("?" * len(Entry._fields))
_SET_ASIDE = f"INSERT INTO aside({', '.join(Entry._fields)}) VALUES({_MARKS}) ON CONFLICT DO NOTHING"

Item = Entry | str  # a report, or the id of a case


class Changes:
    """What one transaction of the casebook will change. Cases read once stay at hand; all is written at its end."""

    def __init__(self, db: Db, store: Store, rules: Rules) -> None:
        self._db, self._store, self._rules = db, store, rules
        self._cases: dict[str, Assessment | None] = {}
        self._states: dict[str, bytes | None] = {}  # of cases that will be asked for
        self._changed: dict[str, bool] = {}  # case_id → whether it was stripped
        self._counts: defaultdict[tuple[str, Labels], float] = defaultdict(float)
        self._aside: list[Entry] = []
        self._meta: dict[str, int | str] = {}

    def get(self, case_id: str) -> Assessment | None:
        """The case as it is now."""
        if case_id not in self._cases:
            if case_id not in self._states:
                self.expect([case_id])
            state = self._states[case_id]
            self._cases[case_id] = Assessment(_loaded(case_id, state), self._rules) if state is not None else None
        return self._cases[case_id]

    def expect(self, items: Iterable[Item]) -> None:
        """Read their cases in one statement, not each when it is asked for."""
        case_ids = {_case_of(item) for item in items}
        self._states |= dict.fromkeys(case_ids)
        sql = _STATES.format(listed=self._store.LISTED)
        self._states |= self._db.execute(sql, (orjson.dumps(list(case_ids)).decode(),)).fetchall()

    def put(self, assessed: Assessment, *, stripped: bool = False) -> None:
        """The case as it is from now on."""
        self._cases[assessed.case.case_id] = assessed
        self._changed[assessed.case.case_id] = stripped

    def count(self, amounts: Iterable[Amount]) -> None:
        """Add to the totals."""
        for name, labels, n in amounts:
            self._counts[name, labels] += n

    def remember(self, **meta: int | str) -> None:
        """Set what the fold must find again: `cursor`, `as_of`, …"""
        self._meta |= meta

    def set_aside(self, item: Item) -> None:
        """Keep it as it came, in nobody's way; counted once."""
        self._aside.append(_entry(item))

    def take_up(self, item: Item) -> None:
        """It is set aside no longer."""
        one = _entry(item)
        key = (one.case_id, one.sender, one.report_id)
        self._db.execute("DELETE FROM aside WHERE (case_id, sender, report_id)=(?, ?, ?)", key)

    def save(self) -> None:
        """Write it all."""
        self._save_aside()
        rows = (_row(case, stripped) for id_, stripped in self._changed.items() if (case := self._cases[id_]))
        self._db.executemany(_SAVE, rows)
        self._db.executemany(_COUNT, ((name, orjson.dumps(on).decode(), n) for (name, on), n in self._counts.items()))
        self._db.executemany(_REMEMBER, ((key, self._store.memo(value)) for key, value in self._meta.items()))

    def _save_aside(self) -> None:
        for one in self._aside:
            self._db.execute(_SET_ASIDE, one)
            if self._db.changes():
                self.count([("failures", (), 1)])
            if not one.report_id:  # neither the sweep nor retention shall meet it
                self._db.execute("UPDATE cases SET due=NULL, stripped=1 WHERE case_id=?", (one.case_id,))


def named(item: Item) -> dict[str, Any]:
    """What a log may say of it."""
    one = _entry(item)
    return {"case_id": one.case_id} | ({"report_id": one.report_id, "seq": one.seq} if one.report_id else {})


def _case_of(item: Item) -> str:
    return item if isinstance(item, str) else item.case_id


def _entry(item: Item) -> Entry:
    return Entry(0, item, 0, "", "", None, None) if isinstance(item, str) else item


def _loaded(case_id: str, state: bytes) -> domain.Case:
    case = domain.load(state)
    if case.case_id != case_id:
        raise ValueError("the state is of another case")
    return case


def _deadline(assessed: Assessment, standard: Standard) -> tuple[int | None, int | None]:
    """The deadline the case runs towards, and from when on that is soon."""
    deadline, time = assessed.running_deadline(standard), assessed.standards[standard].clock
    return (None, None) if deadline is None or time is None else (deadline, deadline - horizon_ms(time.limit_seconds))


def _row(assessed: Assessment, stripped: bool) -> tuple[Any, ...]:
    case, reported, campaign = assessed.case, assessed.case.first.get(Stage.REPORTED), assessed.case.campaign
    outcomes = [one.counted and one.counted.outcome for one in assessed.standards.values()]
    return (
        case.case_id,
        case.owner,
        assessed.kind,
        assessed.category[:2],
        assessed.category,
        case.phase,
        case.progress,
        int(case.is_open),
        case.supervision,
        campaign and campaign.name,
        campaign and campaign.phase,
        reported and reported.occurred_at,
        int(case.approval is not None),
        case.reopenings,
        *outcomes,
        *_deadline(assessed, Standard.ARRIVAL),
        *_deadline(assessed, Standard.COMPLETION),
        assessed.next_due_ms,
        max([fact.received_at for fact in case.facts]),
        int(stripped),
        domain.dump(case),
    )
