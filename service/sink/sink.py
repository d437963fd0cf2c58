"""Works reports into `reports` and `cases`, in the reader's transaction, and judges cases whose time has run out."""

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from service.consumer import Database, Report
from service.domain import case as domain
from service.domain.case import Fact
from service.domain.standards import Rules
from service.sink import tables
from service.sink.fold import Kept, fold, kept
from service.sink.rows import Names, case_row, fact_of, report_row

ASKED = 500  # cases in one question
_NOWHERE: Mapping[str, Any] = {}


class Sink:
    """The two tables of one database; `rules_id` is another one whenever the rules are others.

    `own_only` are the senders whose key says `cases: own`: the messages do not tell.
    """

    def __init__(
        self, database: Database, rules: Rules, rules_id: str, named: Names, own_only: Container[str] = ()
    ) -> None:
        self._own_only = own_only
        self._sql, self._lock = database.sql, database.FOR_UPDATE
        self._database, self._rules, self._rules_id, self._named = database, rules, rules_id, named

    def open(self) -> None:
        """Make the tables that are not there; judge anew what other rules judge otherwise. Raises `DatabaseAway`."""
        with self._database.transaction() as cursor:
            comments = tables.comments() if self._database.COMMENTS else ()
            self._database.make(cursor, "gridgov_sink", (*tables.definitions(), *comments))
            cursor.execute("SELECT value FROM gridgov_sink WHERE key='rules'")
            known = cursor.fetchone()
        if known != (self._rules_id,):
            self._judge_anew()
            sql = "INSERT INTO gridgov_sink VALUES('rules', ?) ON CONFLICT(key) DO UPDATE SET value=excluded.value"
            with self._database.transaction() as cursor:
                cursor.execute(self._sql(sql), (self._rules_id,))

    def handle(self, cursor: Any, reports: list[Report]) -> None:
        """Add the reports, and fold them into their cases."""
        facts: dict[str, list[Fact]] = defaultdict(list)
        places: dict[str, Mapping[str, Any]] = {}
        for report in reports:
            facts[report.case_id].append(fact_of(report, self._own_only))
            if location := report.value.get("location"):
                places.setdefault(report.case_id, location)
        self._database.add(cursor, "reports", REPORT_COLUMNS, [report_row(report) for report in reports])
        known = self._taken(cursor, sorted(facts))
        after = (fold(known[case_id], said, self._rules) for case_id, said in facts.items())
        self._save(cursor, after, places)

    def sweep(self, now: int) -> bool:
        """Judge some whose time has run out by `now` (Unix ms); whether there may be more. Raises `DatabaseAway`."""
        skip = " SKIP LOCKED" if self._lock else ""  # whoever has one of them judges it, or comes by again
        sql = f"SELECT {_KEPT} FROM cases WHERE next_due_ms<=? ORDER BY next_due_ms LIMIT {ASKED}{self._lock}{skip}"
        with self._database.transaction() as cursor:
            cursor.execute(self._sql(sql), (now,))
            due = [self._loaded(*row) for row in cursor.fetchall()]
            self._save(cursor, [one.judged(now) for one in due], {})
        return len(due) == ASKED

    def _taken(self, cursor: Any, case_ids: list[str]) -> dict[str, Kept | None]:
        """The cases as they are, and nobody else's until the transaction ends; None: there was none.

        A row for each that is missing comes first: two members may have its first reports at the same time.
        """
        found = dict(self._read(cursor, case_ids))
        if missing := [case_id for case_id in case_ids if case_id not in found]:
            cursor.executemany(self._sql(tables.ADD_CASE), [(case_id,) for case_id in missing])
            if cursor.rowcount != len(missing):  # somebody else was quicker, and has committed
                found |= dict(self._read(cursor, missing))
        return {case_id: found.get(case_id) for case_id in case_ids}

    def _read(self, cursor: Any, case_ids: list[str]) -> Iterator[tuple[str, Kept | None]]:
        for start in range(0, len(case_ids), ASKED):
            some = case_ids[start : start + ASKED]
            asked = ", ".join("?" * len(some))
            sql = f"SELECT case_id, {_KEPT} FROM cases WHERE case_id IN ({asked}) ORDER BY case_id{self._lock}"
            cursor.execute(self._sql(sql), some)
            yield from ((case_id, self._loaded(*row) if row[0] else None) for case_id, *row in cursor.fetchall())

    def _loaded(self, state: bytes, as_of: int) -> Kept:
        return kept(domain.load(state), as_of, self._rules)

    def _save(self, cursor: Any, cases: Iterable[Kept], places: Mapping[str, Mapping[str, Any]]) -> None:
        rows = [case_row(one, places.get(one.assessed.case.case_id, _NOWHERE), self._named) for one in cases]
        if rows:
            cursor.executemany(self._sql(tables.SAVE_CASE), rows)

    def _judge_anew(self) -> None:
        """Other limits, another grace: what is not decided has another limit, and another next instant."""
        columns = f"case_id, is_open OR next_due_ms IS NOT NULL, {_KEPT}"
        sql = f"SELECT {columns} FROM cases WHERE case_id>? ORDER BY case_id LIMIT {ASKED}{self._lock}"
        after, more = "", True
        while more:
            with self._database.transaction() as cursor:
                cursor.execute(self._sql(sql), (after,))
                rows = cursor.fetchall()
                self._save(cursor, [self._loaded(*row) for _, _, *row in rows], {})
                over = [
                    (case_id,) for case_id, undecided, *_ in rows if not undecided
                ]  # gridgov looks at none of these
                cursor.executemany(self._sql("UPDATE cases SET next_due_ms=NULL WHERE case_id=?"), over)
            more, after = len(rows) == ASKED, rows[-1][0] if rows else ""


REPORT_COLUMNS = {one.name: one.type for one in tables.REPORTS}
_KEPT = "state, as_of_ms"
