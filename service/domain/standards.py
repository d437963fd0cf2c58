"""The promised times: when each clock runs out, what the facts say of it, and what is counted.

What the facts call for (`verdict`) is a pure function of the facts and the rules; time only says whether it may
be told yet. `judge` tells it: the first time as an outcome, later as a correction if the truth has changed. Truth
that is not decided, or no longer called for, takes nothing back, so at every moment, under the labels kept in
`Counted`: cases that are met = counted met + corrected to met - corrected to breached; and so for breached.

| where the design leaves room | what happens here |
|---|---|
| approved, no finish known | decided: breached; a finish heard of later corrects it |
| finished, never approved | judged at the deadline by the finish: approval is not judged |
| arrival or finish before the clock started | met; elapsed and measured as 0 s |
| a finish heard of before the arrival | it is the arrival until an earlier one is known, which corrects it |
| an earlier `reported` comes late | the clock moves back, and the grace runs from the receipt of that report |
| it names another kind or category | judged by the limit of what the case now is, counted where it was first counted |
| an outcome is counted, and the truth is open again | it stays until the truth is decided, then is corrected |
| the table's limit changes | decided cases keep the limit they were judged by; undecided ones get the new one |
| cancelled at the deadline exactly, or after | judged as if not cancelled |
| cancelled before it | no outcome, but for an arrival, or an approval that stands, before the cancellation |
| that cancellation comes after the outcome was counted | the outcome stands, for ever, and is flagged |
| the kind or the table promises nothing (any more) | no outcome; one counted stands, and is flagged |
| returned after approved | open again until the deadline has passed or it is approved anew |
| the clock of the machine steps back | nothing is taken back |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from schemas.words import Stage
from service.domain.case import Case, Counted, Fact, Outcome, Standard


@dataclass(frozen=True, slots=True)
class Rules:
    """`limit(kind, standard, category)`: seconds promised, None for no promise (`Catalogue.limit`)."""

    limit: Callable[[str, str, str], int | None]
    grace_ms: int = 120_000
    clock_start: Mapping[str, Stage] = field(default_factory=dict)  # by kind; `reported` for the others


class Clock(NamedTuple):
    """One standard's time. All but the limit in epoch milliseconds."""

    started_at: int
    limit_seconds: int
    deadline: int
    passed_at: int  # from here on the deadline counts as passed: with the grace, for what is sent late


class Verdict(NamedTuple):
    """What the facts call for by that limit, and from when on (epoch ms; 0: at once) it may be told."""

    outcome: Outcome
    due_ms: int
    limit_seconds: int


class Transition(NamedTuple):
    """One step of the totals: an outcome counted, or (`is_correction`) the case's outcome turned into it."""

    kind: str
    category: str
    standard: Standard
    outcome: Outcome
    is_correction: bool


def start(case: Case, rules: Rules) -> Fact | None:
    """The report that started the clocks."""
    return case.first.get(rules.clock_start.get(case.kind, Stage.REPORTED))


def clock(case: Case, standard: Standard, rules: Rules) -> Clock | None:
    """None when nothing has started it, or nothing is promised."""
    started, limit = start(case, rules), limit_seconds(case, standard, rules)
    if started is None or limit is None:
        return None
    deadline = started.occurred_at + 1000 * limit
    passed_at = max(deadline, started.received_at) + rules.grace_ms
    return Clock(started.occurred_at, limit, deadline, passed_at)


def limit_seconds(case: Case, standard: Standard, rules: Rules) -> int | None:
    """The limit the case is judged by; None: nothing is promised."""
    counted = case.outcome(standard)
    if counted and (counted.kind, counted.category) == (case.kind, case.category):
        return counted.limit_seconds  # an edited table does not judge the past anew
    return rules.limit(case.kind, standard, case.category)


def reached(case: Case, standard: Standard) -> Fact | None:
    """The fact that fulfilled the standard, in time or not."""
    return case.arrival if standard == Standard.ARRIVAL else case.finish


def verdict(case: Case, standard: Standard, rules: Rules) -> Verdict | None:
    """None when the facts call for no outcome: no clock, no promise, or cancelled in time."""
    time = clock(case, standard, rules)
    if time is None:
        return None
    decider = case.arrival if standard == Standard.ARRIVAL else case.approval
    cancelled = case.cancellation
    if cancelled and cancelled.occurred_at < time.deadline and not (decider and decider < cancelled):
        return None
    done = reached(case, standard)
    outcome = Outcome.MET if done and done.occurred_at <= time.deadline else Outcome.BREACHED
    return Verdict(outcome, 0 if decider else time.passed_at, time.limit_seconds)


def _untold(case: Case, standard: Standard, rules: Rules) -> Verdict | None:
    """The verdict, when it is not what was counted."""
    truth, counted = verdict(case, standard, rules), case.outcome(standard)
    return None if truth is None or (counted and counted.outcome == truth.outcome) else truth


def judge(case: Case, now_ms: int, rules: Rules) -> tuple[Case, tuple[Transition, ...]]:
    """Tell what may be told at `now_ms`. To be called after facts were applied, and when `next_due_ms` has come."""
    transitions = []
    for standard in Standard:
        truth = _untold(case, standard, rules)
        if truth and now_ms >= truth.due_ms:
            case, told = _tell(case, standard, truth, now_ms)
            transitions.append(told)
    return case, tuple(transitions)


def _tell(case: Case, standard: Standard, truth: Verdict, now_ms: int) -> tuple[Case, Transition]:
    before = case.outcome(standard)
    first = Counted(standard, truth.outcome, now_ms, case.kind, case.category, truth.limit_seconds)
    told = before._replace(outcome=truth.outcome, decided_at=now_ms) if before else first
    others = (counted for counted in case.counted if counted.standard != standard)
    step = Transition(told.kind, told.category, standard, told.outcome, is_correction=before is not None)
    return replace(case, counted=(*others, told)), step


def next_due_ms(case: Case, rules: Rules) -> int | None:
    """When `judge` will next change something if no fact comes: never before, and then certainly; 0 is at once.

    The rules are part of the answer: under other limits, grace or clock starts, ask again.
    """
    truths = (_untold(case, standard, rules) for standard in Standard)
    return min((truth.due_ms for truth in truths if truth), default=None)


def measure(case: Case, rules: Rules) -> tuple[Case, Mapping[Standard, float]]:
    """The durations (s) to observe now, each given once per case and for ever. To be called after `judge`.

    An arrival is given when it is known, judged or not; a completion when its outcome is counted and a finish
    stands, so a case that ran over its deadline enters with its true length, not as none.
    """
    started = start(case, rules)
    if started is None:
        return case, {}
    seconds = {
        standard: seconds_between(started.occurred_at, done.occurred_at)
        for standard in Standard
        if standard not in case.measured and (done := reached(case, standard))
        if standard == Standard.ARRIVAL or case.outcome(standard)
    }
    return (replace(case, measured=(*case.measured, *seconds)) if seconds else case), seconds


def horizon_ms(limit_seconds: int) -> int:
    """How long before its deadline a promise counts as due soon: 5 minutes, or 2 hours when it is one of hours."""
    return 7_200_000 if limit_seconds >= 4 * 3600 else 300_000


def seconds_between(start_ms: int, end_ms: int) -> float:
    """Never negative: what was done before the clock started took no time of it."""
    return max(0, end_ms - start_ms) / 1000


def running_deadline(case: Case, standard: Standard, rules: Rules) -> int | None:
    """The deadline (epoch ms) an open case is still running towards, or has run past; None once fulfilled."""
    time = clock(case, standard, rules)
    return time.deadline if time and case.is_open and not reached(case, standard) else None


def is_overdue(case: Case, standard: Standard, now_ms: int, rules: Rules) -> bool:
    """Not fulfilled and past the deadline, without any grace. On the deadline itself there is still time."""
    deadline = running_deadline(case, standard, rules)
    return deadline is not None and now_ms > deadline


def is_due_soon(case: Case, standard: Standard, now_ms: int, rules: Rules, horizon_ms: int) -> bool:
    """Not fulfilled, and the deadline comes within the horizon."""
    deadline = running_deadline(case, standard, rules)
    return deadline is not None and now_ms <= deadline <= now_ms + horizon_ms
