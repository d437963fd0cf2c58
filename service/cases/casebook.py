"""The casebook: cases, outcomes, totals and the fold's cursor in one database, changed together or not at all.

Written by the fold alone (`service.cases.fold`, in the relay's leader); read by whoever asks. Each row holds a case's
whole state, and beside it, derived when it is saved, the few columns by which cases are looked for and counted.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb
from typing import Any, Self, TypeVar

from schemas import event
from service.cases.changes import Changes, Item, named
from service.cases.search import CaseIndex
from service.domain.standards import Rules
from service.journal import sqlite
from service.journal.store import RowRefused, Store
from service.ports import Entry, JournalError

log = logging.getLogger(__name__)

VERSION = 3
# What could not be worked in, as it came: a report, or (without sender and report_id) a case that is in the book.
_ASIDE = """
CREATE TABLE aside(
  id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, case_id TEXT NOT NULL, received_at INTEGER NOT NULL,
  sender TEXT NOT NULL, report_id TEXT NOT NULL, fact BLOB, value BLOB, UNIQUE(case_id, sender, report_id));
"""
# Whose a case is, of states that do not say it yet: see `domain.case.load`.
_OWNERS = """
ALTER TABLE cases ADD COLUMN owner TEXT NOT NULL DEFAULT '';
UPDATE cases SET owner=coalesce((
  SELECT value->>'$[3]' FROM json_each(CAST(state AS TEXT), '$.facts')
  ORDER BY value->>'$[7]'<>'reported', value->>'$[1]', value->>'$[2]' LIMIT 1), '')
  WHERE json_valid(CAST(state AS TEXT));
DROP TABLE senders;
CREATE INDEX by_owner ON cases(owner, case_id);
"""
_UPGRADES = {1: _ASIDE, 2: _OWNERS}
SCHEMA = f"""
CREATE TABLE meta(key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE totals(name TEXT, labels TEXT, n REAL NOT NULL, PRIMARY KEY(name, labels)) WITHOUT ROWID;
CREATE TABLE cases(
  case_id TEXT PRIMARY KEY, owner TEXT NOT NULL, kind TEXT NOT NULL, major TEXT NOT NULL, category TEXT NOT NULL,
  phase TEXT NOT NULL, progress TEXT NOT NULL, is_open INTEGER NOT NULL, supervision TEXT NOT NULL, campaign TEXT,
  campaign_phase TEXT, reported_at INTEGER, approved INTEGER NOT NULL, reopenings INTEGER NOT NULL, arrival TEXT,
  completion TEXT, arrival_deadline INTEGER, arrival_soon INTEGER, completion_deadline INTEGER, completion_soon INTEGER,
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
CREATE INDEX by_owner ON cases(owner, case_id);
CREATE INDEX by_phase ON cases(phase, case_id);
CREATE INDEX by_supervision ON cases(supervision, case_id);
CREATE INDEX by_campaign ON cases(campaign, case_id) WHERE campaign IS NOT NULL;
CREATE INDEX by_report ON cases(reported_at);
CREATE INDEX strippable ON cases(touched_at) WHERE is_open=0 AND stripped=0 AND due IS NULL;
{_ASIDE}"""
T = TypeVar("T", bound=Item)


class Casebook(CaseIndex):
    """The casebook in `store`, which has the tables of `SCHEMA`. Every method may raise `JournalError`."""

    def __init__(self, store: Store, rules: Rules) -> None:
        self._store, self._rules = store, rules

    @classmethod
    def in_files(cls, directory: Path, rules: Rules, *, make: bool = True) -> Self:
        """SQLite's in `directory`, made there if it is missing and `make`."""
        return cls(files(directory, make=make), rules)

    def close(self) -> None:
        """Close the files."""
        self._store.close()

    @contextmanager
    def changing(self) -> Iterator[Changes]:
        """One transaction, flushed and in the file that others read: the fold then lets the journal drop rows."""
        with self._store.transaction() as db:
            changes = Changes(db, self._store, self._rules)
            yield changes
            changes.save()
        self.still_here()

    def each(
        self,
        items: Sequence[T],
        work: Callable[[Changes, T], None],
        finish: Callable[[Changes], None] = lambda _: None,
    ) -> None:
        """`work` on every item, then `finish`, in one transaction.

        An item that fails, or whose case cannot be saved then, is set aside and leaves nothing else behind: what is
        wrong with one case must not keep the others waiting.
        """
        try:
            with self.changing() as changes:
                changes.expect(items)
                for item in items:
                    work(changes, item)
                finish(changes)
            return
        except Exception as error:
            if not _its_own(error):
                raise
        with self.changing() as changes:
            for item in items:  # each by itself: it is not known which one it was
                self._alone(changes, item, work)
            finish(changes)

    def replaced(self) -> bool:
        """Whether another casebook stands in this one's place, or none."""
        return self._store.replaced()

    def still_here(self) -> None:
        """Raise `JournalMissing` or `JournalBroken` when it was replaced."""
        self._store.still_here()

    def meta(self) -> dict[str, Any]:
        """What the fold remembers."""
        return dict(self._store.read("SELECT key, value FROM meta"))

    def aside(self, after: int, limit: int) -> tuple[int, list[Entry | str]]:
        """Some of what was set aside, in order, and where there may be more."""
        sql = f"SELECT id, {', '.join(Entry._fields)} FROM aside WHERE id>? ORDER BY id LIMIT ?"
        rows = self._store.read(sql, (after, limit))
        entries = [Entry._make(row) for _, *row in rows]
        return (rows[-1][0] if rows else after), [one if one.report_id else one.case_id for one in entries]

    def erase(self, what: str, *name: str) -> int:
        """Erase the text of a `report` (of a sender, of an id) or a `case`, as the journal does; how many had some.

        Only what could not be worked in holds any, and only where it came as a whole message.
        """
        whose = {"case": "case_id=?", "report": "sender=? AND report_id=?"}[what]
        self._store.overwrite_freed()
        with self._store.transaction() as db:
            rows = db.execute(f"SELECT id, value FROM aside WHERE value IS NOT NULL AND {whose}", name).fetchall()
            for id_, value in rows:
                db.execute("UPDATE aside SET value=? WHERE id=?", (event.erased(value), id_))
        self._store.scrub()
        return len(rows)

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

    def _alone(self, changes: Changes, item: T, work: Callable[[Changes, T], None]) -> None:
        try:
            with self._store.part() as db:
                own = Changes(db, self._store, self._rules)
                work(own, item)
                own.save()
        except Exception as error:
            if not _its_own(error):
                raise
            changes.set_aside(item)
            log.error("set aside", extra={**named(item), "error": type(error).__name__, "at": _raised_at(error)})


def files(directory: Path, *, make: bool = True) -> sqlite.Store:
    """The casebook's file in `directory`, made there if it is missing and `make`."""
    return sqlite.Store(directory, "cases", schema=SCHEMA, version=VERSION, upgrades=_UPGRADES, flush=True, make=make)


def _its_own(error: Exception) -> bool:
    """Whether it is an item's: not the file's, the disk's or the machine's, which every other would meet too."""
    return isinstance(error, RowRefused) or not isinstance(error, JournalError | OSError | MemoryError)


def _raised_at(error: Exception) -> str:
    place = extract_tb(error.__traceback__)[-1]
    return f"{Path(place.filename).name}:{place.lineno}"
