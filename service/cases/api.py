"""`GET /v1/cases` and `GET /v1/cases/{case_id}`: cases as their reports tell them, to whom they concern."""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from flask import Blueprint, Response, request

from schemas.reasons import Reason
from schemas.report import IDENTIFIER
from schemas.times import format_time
from schemas.words import Kind, Supervision
from service.cases.casebook import Casebook
from service.cases.search import Found, Search
from service.domain.case import Case, Phase
from service.domain.standards import Rules
from service.domain.view import view
from service.intake.edge import Refusal, reply
from service.intake.gate import Gate
from service.intake.keys import Principal, Role
from service.journal.store import JournalMissing
from service.ports import Feed

log = logging.getLogger(__name__)

ROUTES = ("/v1/cases", "/v1/cases/<case_id>")
PAGE_CASES, MOST_CASES = 100, 1000
_CHOICES = {
    "phase": [phase.value for phase in Phase],
    "kind": [kind.value for kind in Kind],
    "supervision": [level.value for level in Supervision],
}
_FLAGS = {"true": True, "false": False}
_IDENTIFIER = re.compile(IDENTIFIER)
_WHOLE = re.compile("[0-9]{1,9}")  # int() refuses thousands of digits


class CaseReader:
    """What is known of cases now. Opens the casebook when first asked: intake must not depend on it."""

    def __init__(self, open_casebook: Callable[[], Casebook], journal: Feed, rules: Rules) -> None:
        """`open_casebook` raises `JournalMissing` where there is none: the relay makes it, a reader never does."""
        self._open, self._journal, self._rules = open_casebook, journal, rules
        self._reading = threading.Lock()
        self._opened: Casebook | None = None

    def one(self, case_id: str, owner: str | None) -> dict[str, Any] | None:
        """The body of `GET /v1/cases/{case_id}`; None when there is none, or (with `owner`) it is another's."""
        now = _now()
        with self._casebook() as book:
            as_of = self._as_of(book, now)
            case = book.case(case_id, owner) if book else None
        return self._shown(case, now, as_of) if case else None

    def some(self, wanted: Search, after: str, limit: int) -> dict[str, Any]:
        """The body of `GET /v1/cases`; `next` is the cursor of the next page, None on the last one."""
        now = _now()
        with self._casebook() as book:
            as_of = self._as_of(book, now)
            found = book.search(wanted, now_ms=now, after=after, limit=limit + 1) if book else []
        shown = (self._shown_if_readable(one, now, as_of) for one in found[:limit])
        more = found[limit - 1].case_id if len(found) > limit else None
        return {"cases": [one for one in shown if one], "next": more, "as_of": as_of}

    def _shown(self, case: Case, now: int, as_of: str) -> dict[str, Any]:
        return view(case, now, self._rules) | {"as_of": as_of}

    def _shown_if_readable(self, found: Found, now: int, as_of: str) -> dict[str, Any] | None:
        try:
            return self._shown(found.case(), now, as_of)
        except Exception as error:  # whatever is wrong with one case, the others are shown
            log.error("case not shown", exc_info=error, extra={"case_id": found.case_id})
            return None

    def _as_of(self, book: Casebook | None, now: int) -> str:
        """The moment up to which reports are folded in. Asked before the cases are read, so never too late."""
        _, gone = self._journal.marks()
        meta = book.meta() if book else {}
        cursor = meta.get("cursor", 0) if meta.get("journal_id") == self._journal.journal_id else 0
        if cursor < gone:  # an old copy, or a new one: the journal cannot tell any more what it lacks
            return format_time(meta.get("as_of", 0))
        return format_time(min([now, *(report.received_at for report in self._journal.after(cursor, 1))]))

    @contextmanager
    def _casebook(self) -> Iterator[Casebook | None]:
        """The one that is there now, for one answer; None where there is none."""
        with self._reading:  # they would wait for each other at the connection all the same
            if self._opened is not None and self._opened.replaced():
                self._opened.close()
                self._opened = None
            if self._opened is None:
                with suppress(JournalMissing):
                    self._opened = self._open()
            yield self._opened


def blueprint(reader: CaseReader, gate: Gate) -> Blueprint:
    """The two routes. A reader sees all cases, and so does a sender that may speak of all; the others see their own."""
    cases = Blueprint("cases", __name__)

    @cases.get("/v1/cases")
    def some() -> Response:
        owner = _only(gate.caller(request.environ))
        limit, after = _limit(), request.args.get("cursor", "")
        return reply(200, reader.some(_wanted(owner), after, limit))

    @cases.get("/v1/cases/<case_id>")
    def one(case_id: str) -> Response:
        found = reader.one(case_id, _only(gate.caller(request.environ)))
        if found is None:
            raise Refusal(Reason.NOT_FOUND)
        return reply(200, found)

    return cases


def _only(principal: Principal) -> str | None:
    return None if Role.READER in principal.roles or principal.scope.speaks_for_all else principal.name


def _wanted(owner: str | None) -> Search:
    unknown = request.args.keys() - {*_CHOICES, "overdue", "due_soon", "campaign", "limit", "cursor"}
    if unknown or any(len(request.args.getlist(name)) > 1 for name in request.args):
        raise Refusal(Reason.BAD_PARAMETER)
    chosen: dict[str, Any] = {}
    for name, choices in _CHOICES.items():
        chosen[name] = _parameter(name, {choice: choice for choice in choices})
    for name in ("overdue", "due_soon"):
        chosen[name] = _parameter(name, _FLAGS)
    return Search(**chosen, campaign=request.args.get("campaign"), owner=owner)


def _parameter(name: str, choices: dict[str, Any]) -> Any:
    given = request.args.get(name)
    if given is not None and given not in choices:
        raise Refusal(Reason.BAD_PARAMETER)
    return None if given is None else choices[given]


def _limit() -> int:
    given = request.args.get("limit", str(PAGE_CASES))
    if not (_WHOLE.fullmatch(given) and 1 <= int(given) <= MOST_CASES):
        raise Refusal(Reason.BAD_PARAMETER)
    if (cursor := request.args.get("cursor")) is not None and not _IDENTIFIER.fullmatch(cursor):
        raise Refusal(Reason.BAD_PARAMETER)
    return int(given)


def _now() -> int:
    return int(time.time() * 1000)
