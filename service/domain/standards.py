"""The promised times: when each clock runs out, what the facts say of it, and what is counted.

What the facts call for (a verdict) is a pure function of the facts and the rules; time only says whether it may
be told yet. `judged` tells it: the first time as an outcome, later as a correction if the truth has changed. Truth
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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import Struct  # made in a third of the time that a tuple with names takes

from schemas.words import Stage, Standard
from service.domain.case import Case, Counted, Fact, Outcome
from service.domain.flags import CaseFlag, flags


@dataclass(frozen=True, slots=True)
class Rules:
    """`limit(kind, standard, category)`: seconds promised, None for no promise (`Catalogue.limit`)."""

    limit: Callable[[str, str, str], int | None]
    grace_ms: int = 120_000
    clock_start: Mapping[str, Stage] = field(default_factory=dict)  # by kind; `reported` for the others


class Clock(Struct, frozen=True, gc=False):
    """One standard's time. All but the limit in epoch milliseconds."""

    started_at: int
    limit_seconds: int
    deadline: int
    passed_at: int  # from here on the deadline counts as passed: with the grace, for what is sent late


class Verdict(Struct, frozen=True, gc=False):
    """What the facts call for by that limit, and from when on (epoch ms; 0: at once) it may be told."""

    outcome: Outcome
    due_ms: int
    limit_seconds: int


class Transition(Struct, frozen=True, gc=False):
    """One step of the totals: an outcome counted, or (`is_correction`) the case's outcome turned into it."""

    kind: str
    category: str
    standard: Standard
    outcome: Outcome
    is_correction: bool


class Judged(Struct, gc=False):
    """One standard as the facts of a case and the rules have it."""

    standard: Standard
    limit_seconds: int | None  # None: nothing is promised
    clock: Clock | None  # None: nothing has started it, or nothing is promised
    reached: Fact | None  # what fulfilled it, in time or not
    decider: Fact | None  # whose coming decides the outcome before its deadline has passed
    verdict: Verdict | None  # None: no outcome is called for: no clock, no promise, or cancelled in time
    counted: Counted | None

    @property
    def untold(self) -> Verdict | None:
        """The verdict, when it is not what was counted."""
        verdict, counted = self.verdict, self.counted
        return None if verdict and counted and counted.outcome is verdict.outcome else verdict


# Sooner than the members of their enums, as in `domain.case`.
_ARRIVAL, _COMPLETION, _REPORTED = Standard.ARRIVAL, Standard.COMPLETION, Stage.REPORTED
_MET, _BREACHED = Outcome.MET, Outcome.BREACHED


class Assessment:
    """A case under the rules, worked out once: everything that is counted, stored and shown of it is read here.

    What is added to it and told of it changes it in place, and the case that it was given.
    """

    case: Case
    rules: Rules
    kind: str
    category: str
    started: Fact | None  # what started the clocks
    standards: dict[Standard, Judged]  # each of them, promised or not
    next_due_ms: int | None
    """When `judge` will next change something if no fact comes: never before, and then certainly; 0 is at once.
    The rules are part of the answer: under other limits, grace or clock starts, assess again."""
    _starts: Stage  # what starts the clocks
    _outcome_stands: bool
    _flags: tuple[CaseFlag, ...] | None  # None: not worked out, as nobody has asked
    __slots__ = tuple(__annotations__)

    def __init__(self, case: Case, rules: Rules) -> None:
        self.case, self.rules = case, rules
        self._assess()

    def copy(self) -> "Assessment":
        """Another one to be worked on."""
        return Assessment(self.case.copy(), self.rules)

    def add(self, fact: Fact) -> bool:
        """One more fact, as `Case.add`. A standard that it does not touch stays as it was judged."""
        case, named, cancelled = self.case, self.case.named_by, self.case.cancellation
        if not case.add(fact):
            return False
        if case.named_by is named and case.cancellation is cancelled and case.first.get(self._starts) is self.started:
            self._flags, (arrival, completion) = None, self.standards.values()
            if case.arrival is not arrival.reached:
                self._judge_anew(arrival, case.arrival, case.arrival)
            if case.finish is not completion.reached or case.approval is not completion.decider:
                self._judge_anew(completion, case.finish, case.approval)
        else:
            self._assess()
        return True

    @property
    def flags(self) -> tuple[CaseFlag, ...]:
        """What is odd about the case, in the order of `CaseFlag`."""
        if self._flags is None:
            self._flags = flags(self.case, self.started, outcome_stands=self._outcome_stands)
        return self._flags

    def is_due(self, now_ms: int) -> bool:
        """Whether a sweep would tell something of the case."""
        return self.next_due_ms is not None and self.next_due_ms <= now_ms

    def judge(self, now_ms: int) -> Sequence[Transition]:
        """Tell what may be told at `now_ms`. To be called after facts were added, and when `next_due_ms` has come."""
        if not self.is_due(now_ms):
            return ()
        steps = []
        for standard, one in self.standards.items():
            if (truth := one.untold) is not None and now_ms >= truth.due_ms:
                now, is_correction = self._told(one, truth, now_ms), one.counted is not None
                steps.append(Transition(now.kind, now.category, standard, now.outcome, is_correction))
                one.counted = now
        self.case.counted = tuple([one.counted for one in self.standards.values() if one.counted is not None])
        self._look_ahead()
        return steps

    def measure(self) -> Mapping[Standard, float]:
        """The durations (s) to observe now, each given once per case and for ever. To be called after `judge`.

        An arrival is given when it is known, judged or not; a completion when its outcome is counted and a finish
        stands, so a case that ran over its deadline enters with its true length, not as none.
        """
        started, done = self.started, self.case.measured
        seconds: dict[Standard, float] = {}
        if started is None or len(done) == len(self.standards):
            return seconds
        for standard, one in self.standards.items():
            if (reached := one.reached) is None or standard in done:
                continue
            if standard is _ARRIVAL or one.counted is not None:
                seconds[standard] = seconds_between(started.occurred_at, reached.occurred_at)
        if seconds:
            self.case.measured = (*done, *seconds)
        return seconds

    def running_deadline(self, standard: Standard) -> int | None:
        """The deadline (epoch ms) an open case is still running towards, or has run past; None once fulfilled."""
        one = self.standards[standard]
        return one.clock.deadline if one.clock and self.case.is_open and not one.reached else None

    def is_overdue(self, standard: Standard, now_ms: int) -> bool:
        """Not fulfilled and past the deadline, without any grace. On the deadline itself there is still time."""
        deadline = self.running_deadline(standard)
        return deadline is not None and now_ms > deadline

    def _assess(self) -> None:
        """All of it."""
        case, named = self.case, self.case.named_by
        self.kind, self.category = named.kind, named.category
        self._starts = self.rules.clock_start.get(self.kind, _REPORTED)
        self.started = case.first.get(self._starts)
        self.standards = {
            _ARRIVAL: self._judged(_ARRIVAL, case.arrival, case.arrival),
            _COMPLETION: self._judged(_COMPLETION, case.finish, case.approval),
        }
        self._look_ahead()

    def _judge_anew(self, one: Judged, reached: Fact | None, decider: Fact | None) -> None:
        """By the same clock, which nothing has touched."""
        one.reached, one.decider = reached, decider
        one.verdict = None if one.clock is None else self._verdict(one.clock, reached, decider)
        self._look_ahead()

    def _look_ahead(self) -> None:
        due, self._outcome_stands, self._flags = None, False, None
        for one in self.standards.values():
            if one.verdict is None:
                self._outcome_stands |= one.counted is not None
            elif (truth := one.untold) is not None and (due is None or truth.due_ms < due):
                due = truth.due_ms
        self.next_due_ms = due

    def _judged(self, standard: Standard, reached: Fact | None, decider: Fact | None) -> Judged:
        limit, time, counted = self._promised(standard)
        verdict = None if time is None else self._verdict(time, reached, decider)
        return Judged(standard, limit, time, reached, decider, verdict, counted)

    def _promised(self, standard: Standard) -> tuple[int | None, Clock | None, Counted | None]:
        counted = self.case.outcome(standard)
        if counted and (counted.kind, counted.category) == (self.kind, self.category):
            limit: int | None = counted.limit_seconds  # an edited table does not judge the past anew
        else:
            limit = self.rules.limit(self.kind, standard, self.category)
        return limit, self._clock(limit), counted

    def _clock(self, limit: int | None) -> Clock | None:
        started = self.started
        if started is None or limit is None:
            return None
        deadline = started.occurred_at + 1000 * limit
        passed_at = max(deadline, started.received_at) + self.rules.grace_ms
        return Clock(started.occurred_at, limit, deadline, passed_at)

    def _verdict(self, time: Clock, done: Fact | None, decider: Fact | None) -> Verdict | None:
        cancelled = self.case.cancellation
        if cancelled and cancelled.occurred_at < time.deadline and not (decider and decider < cancelled):
            return None
        outcome = _MET if done and done.occurred_at <= time.deadline else _BREACHED
        return Verdict(outcome, 0 if decider else time.passed_at, time.limit_seconds)

    def _told(self, one: Judged, truth: Verdict, now_ms: int) -> Counted:
        if one.counted is not None:
            return one.counted._replace(outcome=truth.outcome, decided_at=now_ms)
        return Counted(one.standard, truth.outcome, now_ms, self.kind, self.category, truth.limit_seconds)


def horizon_ms(limit_seconds: int) -> int:
    """How long before its deadline a promise counts as due soon: 5 minutes, or 2 hours when it is one of hours."""
    return 7_200_000 if limit_seconds >= 4 * 3600 else 300_000


def seconds_between(start_ms: int, end_ms: int) -> float:
    """Never negative: what was done before the clock started took no time of it."""
    return max(0, end_ms - start_ms) / 1000
