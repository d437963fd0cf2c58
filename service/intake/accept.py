"""The use case: a report becomes a message, the message goes to the journal, and only then there is an answer."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from msgspec import Struct

from schemas import event, wire
from schemas import report as reports
from schemas.catalogue import Catalogue
from schemas.personal import Policy
from schemas.reasons import Reason
from schemas.report import Invalid, Problem, Report
from service.domain.fact import pack
from service.domain.meaning import Meaning, examine
from service.intake.keys import Principal
from service.intake.policies import STRICTEST, Policies
from service.metrics import Bound, WebMetrics
from service.ports import Conflict, Message, Receipt

TURN_REPORTS = 100  # of a batch: then others have a turn, some 4 ms later
Quarantine = Callable[[str, dict[str, Any], Reason, Sequence[Problem]], None]
_OBJECT = (dict, reports.PLAIN.type)
_RESULTS = {False: "accepted", True: "duplicate"}
_IDENTIFIER = re.compile(reports.IDENTIFIER)


class Submit(Protocol):
    """What intake needs of the journal's writer."""

    def submit(self, messages: Sequence[Message]) -> list[Receipt | Conflict]:
        """One answer per message, after the flush. Raises `JournalError`."""


@dataclass(frozen=True, slots=True)
class Refused:
    """One report that was not taken: the code of the answer and every problem found."""

    reason: Reason
    problems: tuple[Problem, ...] = ()
    report_id: str | None = None


class _Prepared(Struct, frozen=True, gc=False):
    report: Report
    meaning: Meaning
    message: Message


class Intake:
    """Takes reports of one sender at a time. `clock` gives Unix milliseconds; a large batch does `give_way`."""

    def __init__(
        self,
        catalogue: Catalogue,
        writer: Submit,
        metrics: WebMetrics,
        *,
        clock: Callable[[], int],
        accept_unknown_minor: bool,
        give_way: Callable[[], None] = lambda: None,
        policies: Policies = STRICTEST,
        quarantine: Quarantine = lambda *_: None,
    ) -> None:
        self._catalogue, self._writer = catalogue, writer
        self._reports, self._delay, self._flags = Bound(metrics.reports), Bound(metrics.delay), Bound(metrics.flags)
        self._policies, self._quarantine = policies, quarantine
        self._clock, self._accept_unknown_minor, self._give_way = clock, accept_unknown_minor, give_way

    def accept(
        self, sender: Principal, items: Sequence[object], *, traceparent: str | None = None
    ) -> list[Receipt | Refused]:
        """One answer per parsed item (or `wire.Unreadable` in its place), in order.

        The good ones are flushed to the journal together before this returns; the bad ones cost them nothing.
        Raises `JournalError`: then nothing at all is promised.
        """
        now, policy = self._clock(), self._policies.of(sender.name)
        prepared: list[_Prepared | Refused] = []
        for begin in range(0, len(items), TURN_REPORTS):
            if begin:
                self._give_way()
            turn = items[begin : begin + TURN_REPORTS]
            prepared += [self._prepare(sender, policy, item, now, traceparent) for item in turn]
        good = [one for one in prepared if isinstance(one, _Prepared)]
        answers = self._writer.submit([one.message for one in good]) if good else []
        self._count(good, answers)
        told = map(_told, answers)
        done = [one if isinstance(one, Refused) else next(told) for one in prepared]
        for item, answer in zip(items, done, strict=True):
            if isinstance(answer, Refused) and isinstance(item, _OBJECT):
                self._quarantine(sender.name, reports.as_sent(item), answer.reason, answer.problems)
        return done

    def _prepare(
        self, sender: Principal, policy: Policy, item: object, now: int, traceparent: str | None
    ) -> _Prepared | Refused:
        if isinstance(item, wire.Unreadable):
            return Refused(item.reason)
        if not isinstance(item, _OBJECT):
            return Refused(Reason.NOT_AN_OBJECT)
        try:
            loaded = reports.load(item, now_ms=now, policy=policy)
        except Invalid as invalid:
            return Refused(Reason.INVALID_REPORT, invalid.problems, _id_of(reports.as_sent(item)))
        if not (sender.scope.every_report or sender.scope.covers(loaded.kind, loaded.category)):
            return Refused(Reason.FORBIDDEN, (Problem("/category", Reason.OUTSIDE_SCOPE),), loaded.report_id)
        meaning = examine(loaded, self._catalogue, now_ms=now, accept_unknown_minor=self._accept_unknown_minor)
        if isinstance(meaning, Problem):
            return Refused(Reason.INVALID_REPORT, (meaning,), loaded.report_id)
        return _Prepared(loaded, meaning, self._message(sender, loaded, meaning, now, traceparent))

    def _message(
        self, sender: Principal, loaded: Report, meaning: Meaning, now: int, traceparent: str | None
    ) -> Message:
        value = event.build(
            loaded,
            received_at_ms=now,
            flags=meaning.flags,
            edition=self._catalogue.edition,
            major_name=_names(meaning.major.zh, meaning.major.en),
            category_name=_names(meaning.category.zh, meaning.category.en) if meaning.category else None,
        )
        return Message(
            sender=sender.name,
            report_id=loaded.report_id,
            fingerprint=loaded.fingerprint(),
            case_id=loaded.case_id,
            topic=meaning.major.topic,
            headers=event.headers(loaded, sender=sender.name, traceparent=traceparent),
            value=value,
            received_at=now,
            fact=pack(loaded, own_only=not sender.scope.speaks_for_all),
        )

    def _count(self, good: Sequence[_Prepared], answers: Sequence[Receipt | Conflict]) -> None:
        """All metrics of a request at once."""
        delays: dict[str, list[float]] = {}
        for one, answer in zip(good, answers, strict=True):
            if isinstance(answer, Conflict):
                continue
            report = one.report
            self._reports[report.kind, report.major, report.stage, _RESULTS[answer.duplicate]].inc()
            if not answer.duplicate:
                delay = max(0, one.message.received_at - report.occurred_at_ms) / 1000
                delays.setdefault(report.kind, []).append(delay)
                for flag in one.meaning.flags:
                    self._flags[flag,].inc()
        for kind, seconds in delays.items():
            self._delay[kind,].observe_all(seconds)


def _told(answer: Receipt | Conflict) -> Receipt | Refused:
    return Refused(Reason.CONFLICT, report_id=answer.report_id) if isinstance(answer, Conflict) else answer


@cache
def _names(zh: str, en: str) -> event.Names:
    return event.Names(zh=zh, en=en)


def _id_of(item: dict[str, object]) -> str | None:
    """The id of a report that is wrong, for the batch's result line, if at least the id is right."""
    given = item.get("report_id")
    return given if isinstance(given, str) and _IDENTIFIER.fullmatch(given) else None
