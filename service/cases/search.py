"""Looking for cases, and counting them, by the columns that the casebook keeps beside their state."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from schemas.words import Standard
from service.domain import case as domain
from service.domain.case import Case, Phase
from service.journal.store import Store

Labels = tuple[str, ...]

_SEARCHED = ("phase", "kind", "supervision", "campaign", "owner")
_OPEN_PHASES = {*Phase} - {Phase.APPROVED, Phase.CANCELLED}
_FIGURES = {
    "reported": "true",
    "approved": "approved=1",
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


@dataclass(frozen=True, slots=True)
class Search:
    """Which cases are wanted; None: no matter."""

    phase: str | None = None
    kind: str | None = None
    supervision: str | None = None
    campaign: str | None = None
    overdue: bool | None = None
    due_soon: bool | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Period:
    """Which cases a period's figures are about: those reported in [since, until), in epoch milliseconds."""

    since: int
    until: int
    campaign: str | None = None
    campaign_phase: str | None = None
    supervision: str | None = None


class Found(NamedTuple):
    """A case that was looked for, as it is kept: read one by one, so that one that cannot be spoils no list."""

    case_id: str
    state: bytes

    def case(self) -> Case:
        """The case itself. Raises ValueError when the state is none."""
        return domain.load(self.state)


class CaseIndex:
    """The reading side of a casebook. Every method may raise `JournalError`."""

    _store: Store

    def case(self, case_id: str, owner: str | None = None) -> Case | None:
        """One case; with `owner`, only if it is that sender's."""
        theirs, bindings = (" AND owner=?2", (case_id, owner)) if owner else ("", (case_id,))
        rows = self._store.read(f"SELECT state FROM cases WHERE case_id=?1{theirs}", bindings)
        return domain.load(rows[0][0]) if rows else None

    def search(self, wanted: Search, *, now_ms: int, after: str, limit: int) -> list[Found]:
        """At most `limit` cases with an id beyond `after`, in order of their ids."""
        conditions, bindings = ["case_id>?2"], [now_ms, after]
        for name in _SEARCHED:
            if (value := getattr(wanted, name)) is not None:
                bindings.append(value)
                conditions.append(f"{name}=?{len(bindings)}")
        asked = {what: getattr(wanted, what) for what in _RUNNING}
        conditions += [_either(what, value) for what, value in asked.items() if value is not None]
        where = f"{self._source(wanted)} WHERE {' AND '.join(conditions)}"
        sql = f"SELECT case_id, state FROM {where} ORDER BY case_id LIMIT {limit:d}"
        return [Found._make(row) for row in self._store.read(sql, tuple(bindings))]

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
        sql = f"SELECT campaign_phase, kind, {sums} FROM cases WHERE {conditions} GROUP BY 1, 2"
        sql += " ORDER BY 1 DESC NULLS LAST, 2"
        return [dict(zip(names, row, strict=True)) for row in self._store.read(sql, tuple(bindings))]

    def _source(self, wanted: Search) -> str:
        """Where to look: whoever asks for something open must not wait for all that was closed in years."""
        if wanted.phase in _OPEN_PHASES:
            return self._store.among("cases", "by_phase")
        if wanted.overdue or wanted.due_soon:
            return self._store.among("cases", "open_in_order")
        return "cases" if wanted.owner is None else self._store.among("cases", "by_owner")

    def _counts(self, sql: str, bindings: tuple[Any, ...] = ()) -> dict[Labels, int]:
        return {tuple(labels): n for *labels, n in self._store.read(sql, bindings)}


def _either(what: str, wanted: bool) -> str:
    either = " OR ".join(f"({_RUNNING[what].format(standard)})" for standard in Standard)
    return f"is_open=1 AND ({either})" if wanted else f"NOT ({either})"
