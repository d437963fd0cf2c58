"""A case: the fold of its reports from those who may speak of it, in whatever order they came.

It belongs to the sender whose `reported` was folded first; before there is one, to that of the first fact. What a
sender that may speak of its own cases only says of another's is kept, shown and flagged, and nothing is derived of it:
`heard` are the others. Whose it is does not change once it was reported, so what was counted stays what was heard.

The state is the set of facts itself, kept in the order they *happened*, and what has been counted of them.
Everything said about a case (its kind, its phase, when it was finished) is derived from that set, so facts
merge in any order by construction: only *when* an outcome was counted depends on when we heard of it.

One order rules everything: by `occurred_at`, ties by `received_at`, then by `seq` in the journal. So of a finish
and a `returned` in the same millisecond, the one that came to us first happened first.

| where the design leaves room | what happens here |
|---|---|
| the same (sender, report_id) again, even with other content | the first one folded stands; nothing changes |
| several `reported`, or none | kind and category are those of the first to happen; none yet: of the first fact |
| kind and category, campaign | whole, from one fact: never the kind of one and the category of another |
| a stage `pressed` or `supervised` | states that supervision, as the field of the same name would |
| `returned` and arrival | only finishes and approvals are voided: a voided finish still shows staff on site |
| anything after `cancelled` | kept, shown, flagged; the case stays cancelled |
| `suspended` without `resumed` | a later finish ends it too: nobody waits for a case that is done |
| approved, no finish known | approved: the approval stands, and closes the case |
| two `returned` from two senders | two reopenings: nothing tells a repeat from a second rework |
"""

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

import msgspec

from schemas.words import Stage, Standard, Supervision


class Phase(StrEnum):
    """Where a case stands."""

    AWAITING_ARRIVAL = "awaiting_arrival"
    IN_PROGRESS = "in_progress"
    AWAITING_APPROVAL = "awaiting_approval"
    SUSPENDED = "suspended"
    APPROVED = "approved"
    CANCELLED = "cancelled"


class Outcome(StrEnum):
    """Whether a promise was kept."""

    MET = "met"
    BREACHED = "breached"


class Campaign(NamedTuple):
    name: str
    phase: str | None = None
    level: str | None = None


class Fact(NamedTuple):
    """What one accepted report says of its case. Times are epoch milliseconds; None was not stated.

    The facts of one case compare in the order they happened: the fields come in the order of that rule.
    """

    case_id: str
    occurred_at: int
    received_at: int
    seq: int
    sender: str
    report_id: str
    kind: str
    category: str
    stage: Stage
    supervision: Supervision | None = None
    campaign: Campaign | None = None
    own_only: bool = False  # its sender speaks of its own cases only


class Counted(NamedTuple):
    """The outcome a case has in the totals, under the labels and by the limit it was first counted with."""

    standard: Standard
    outcome: Outcome
    decided_at: int  # epoch ms by our clock: when counted or last corrected
    kind: str
    category: str
    limit_seconds: int


# Of these each fact is asked; a name of the module costs nothing, a member of its enum 70 ns each time (Python 3.11).
_REPORTED, _FINISHED, _APPROVED = Stage.REPORTED, Stage.FINISHED, Stage.APPROVED
_RETURNED, _SUSPENDED, _CANCELLED = Stage.RETURNED, Stage.SUSPENDED, Stage.CANCELLED


class Story:
    """What follows from facts, told one after the other in the order they happened."""

    heard: tuple[Fact, ...]  # those from who may speak of the case
    first: dict[Stage, Fact]  # the earliest of each stage there is
    named_by: Fact  # the fact whose kind and category are the case's
    arrival: Fact | None  # the first proof that staff were on site: whoever finished had arrived
    finish: Fact | None  # the finish that stands
    approval: Fact | None  # the approval that stands: the case is complete
    cancellation: Fact | None
    supervision: Supervision  # the highest stated, by field or by stage
    campaign: Campaign | None  # the last stated
    reopenings: int
    on_hold: bool
    kind_changed: bool  # not all facts agree
    category_changed: bool
    after_cancelled: bool  # something other than a note happened after it was cancelled
    out_of_order: bool  # stages did not happen in the order of the process, or did not come in that they happened in
    restated: tuple[Stage, ...]  # stages of which there are several times
    _came: tuple[int, int]  # when the last of those that are to come in order came
    __slots__ = tuple(__annotations__)

    def _begin(self, heard: tuple[Fact, ...]) -> None:
        """Tell these, of which there is at least one, and nothing else."""
        self.heard, self.first, self.named_by = heard, {}, heard[0]
        self.arrival = self.finish = self.approval = self.cancellation = self.campaign = None
        self.supervision, self.reopenings, self.restated, self._came = Supervision.NONE, 0, (), (0, 0)
        self.on_hold = self.kind_changed = self.category_changed = self.after_cancelled = self.out_of_order = False
        for fact in heard:
            self._tell(fact)

    def _tell(self, fact: Fact) -> None:
        _, occurred_at, received_at, seq, _, _, kind, category, stage, supervision, campaign, _ = fact
        named, first = self.named_by, self.first.get(stage)
        if category != named.category:
            self.category_changed = True
        if kind != named.kind:
            self.kind_changed = True
        if first is None:
            self._tell_stage(fact, stage)
        elif occurred_at != first.occurred_at:
            self.restated = (*self.restated, stage)
        if stage in _WORK:
            self._tell_work(fact, stage)
        if stage not in _COMMENTS:
            came = (received_at, seq)
            if came < self._came:
                self.out_of_order = True
            self._came = came
        if self.cancellation is not None and stage not in _ENDED:
            self.after_cancelled = True
        if supervision is not None and _RANK[supervision] > _RANK[self.supervision]:
            self.supervision = supervision
        if campaign is not None:
            self.campaign = campaign

    def _tell_stage(self, fact: Fact, stage: Stage) -> None:
        """The first of its stage."""
        before = self.first
        for later in _LATER.get(stage, ()):
            if later in before and before[later].occurred_at < fact.occurred_at:
                self.out_of_order = True
        before[stage] = fact
        if stage is _REPORTED:
            self.named_by = fact
        elif stage is _CANCELLED:
            self.cancellation = fact
        elif stage is _RETURNED and _FINISHED not in before:
            self.out_of_order = True
        elif (level := _SAID_BY_STAGE.get(stage)) is not None and _RANK[level] > _RANK[self.supervision]:
            self.supervision = level

    def _tell_work(self, fact: Fact, stage: Stage) -> None:
        """What it says of staff on site, of what stands, and of whether somebody is to go on."""
        if self.arrival is None and stage in _ON_SITE:
            self.arrival = fact
        if stage in _HOLD_STAGES:
            self.on_hold = stage is _SUSPENDED
        if stage is _RETURNED:
            self.finish = self.approval = None
            self.reopenings += 1
        elif stage is _FINISHED and self.finish is None:
            self.finish = fact
        elif stage is _APPROVED and self.approval is None:
            self.approval = fact


@dataclass(slots=True)
class Case(Story):
    """`facts`, in order and never empty, are the truth; `counted` and `measured` what was told of it, once.

    Facts are added in place: a case is worked on by one, who has it for himself.
    """

    case_id: str
    facts: tuple[Fact, ...]
    owner: str
    counted: tuple[Counted, ...] = ()  # at most one of each standard
    measured: tuple[Standard, ...] = ()  # whose duration a histogram has already
    forgotten: tuple[tuple[str, str], ...] = ()  # (sender, report_id) of facts that retention has dropped

    def __post_init__(self) -> None:
        self._tell_all()

    @classmethod
    def of(cls, fact: Fact) -> "Case":
        """A case of which this is the first that we hear."""
        return cls(fact.case_id, (fact,), fact.sender)

    def copy(self) -> "Case":
        """Another one to be worked on."""
        return Case(self.case_id, self.facts, self.owner, self.counted, self.measured, self.forgotten)

    def add(self, fact: Fact) -> bool:
        """One more fact; False when its (sender, report_id) was there already.

        Raises ValueError when the fact is of another case.
        """
        case_id, _, _, _, sender, report_id, _, _, stage, _, _, own_only = fact
        if case_id != self.case_id:
            raise ValueError("the fact is of another case")
        for known in self.facts:
            if known.report_id == report_id and known.sender == sender:
                return False
        if self.forgotten and (sender, report_id) in self.forgotten:
            return False
        is_heard = not own_only or sender == self.owner
        if is_heard and fact > self.facts[-1] and (stage is not _REPORTED or stage in self.first):
            all_are = self.heard is self.facts
            self.facts = (*self.facts, fact)
            self.heard = self.facts if all_are else (*self.heard, fact)
            self._tell(fact)  # what was told still holds
        else:
            if stage is _REPORTED and not self.was_reported:
                self.owner = sender
            facts = list(self.facts)
            insort(facts, fact)
            self.facts = tuple(facts)
            self._tell_all()
        return True

    def is_foreign(self, fact: Fact) -> bool:
        """Whether it is of somebody who may not speak of this case."""
        return fact.own_only and fact.sender != self.owner

    @property
    def kind(self) -> str:
        return self.named_by.kind

    @property
    def category(self) -> str:
        return self.named_by.category

    @property
    def was_reported(self) -> bool:
        """Once true, always true: for a counter that counts each case once."""
        return _REPORTED in self.first

    @property
    def was_approved(self) -> bool:
        """Approved at least once, voided or not. Once true, always true, as `was_reported`."""
        return _APPROVED in self.first

    @property
    def is_open(self) -> bool:
        return self.cancellation is None and self.approval is None

    @property
    def progress(self) -> Phase:
        """How far the work on an open case has come, on hold or not: the label of the open-case gauges."""
        if self.finish:
            return Phase.AWAITING_APPROVAL
        return Phase.IN_PROGRESS if self.arrival else Phase.AWAITING_ARRIVAL

    @property
    def phase(self) -> Phase:
        if self.cancellation:
            return Phase.CANCELLED
        if self.approval:
            return Phase.APPROVED
        return Phase.SUSPENDED if self.on_hold else self.progress

    def outcome(self, standard: Standard) -> Counted | None:
        """The outcome counted, if one was."""
        for counted in self.counted:
            if counted.standard is standard:
                return counted
        return None

    def _tell_all(self) -> None:
        heard = self.facts
        for fact in heard:
            if fact.own_only and fact.sender != self.owner:
                heard = tuple(fact for fact in heard if not self.is_foreign(fact))
                break
        self._begin(heard)


_RANK = {level: rank for rank, level in enumerate(Supervision)}
_SAID_BY_STAGE = {Stage.PRESSED: Supervision.PRESSED, Stage.SUPERVISED: Supervision.SUPERVISED}
_PROCESS = (Stage.REPORTED, Stage.DISPATCHED, Stage.ARRIVED, Stage.FINISHED, Stage.APPROVED)
_LATER = {stage: _PROCESS[n + 1 :] for n, stage in enumerate(_PROCESS)}
_COMMENTS = {Stage.NOTE, Stage.PRESSED, Stage.SUPERVISED}  # at home anywhere in the process
_ENDED = {Stage.CANCELLED, Stage.NOTE}  # what may follow a cancellation
_ON_SITE = {Stage.ARRIVED, Stage.FINISHED}
_HOLD_STAGES = {Stage.SUSPENDED, Stage.RESUMED, Stage.FINISHED}
_WORK = {*_ON_SITE, *_HOLD_STAGES, Stage.RETURNED, Stage.APPROVED}


def apply(case: Case | None, fact: Fact) -> Case:
    """A case with one more fact; the same one when its (sender, report_id) was there already."""
    if case is None:
        return Case.of(fact)
    after = case.copy()
    return after if after.add(fact) else case


def essence(case: Case) -> Case:
    """The same case without the comments that nothing said or counted of it depends on, now or after a further fact.

    What retention keeps of a closed case. Whose comments went is kept, so that one that is sent again counts as seen.
    """
    most = max(case.heard, key=lambda fact: max(_RANK[level] for level in _stated(fact)))
    last = next((fact for fact in reversed(case.heard) if fact.campaign), None)
    kept = tuple(fact for fact in case.facts if fact in (case.heard[0], most, last) or not _is_idle(case, fact))
    gone = ((fact.sender, fact.report_id) for fact in case.facts if fact not in kept)
    return replace(case, facts=kept, forgotten=(*case.forgotten, *gone))


def _stated(fact: Fact) -> tuple[Supervision, Supervision]:
    return fact.supervision or Supervision.NONE, _SAID_BY_STAGE.get(fact.stage, Supervision.NONE)


def _is_idle(case: Case, fact: Fact) -> bool:
    """A comment that agrees with its case, and does not come after its end; of whom it will be heard for good, too."""
    if case.is_foreign(fact) or (fact.own_only and not case.was_reported):
        return False
    after_end = case.cancellation is not None and fact > case.cancellation and fact.stage != Stage.NOTE
    return fact.stage in _COMMENTS and (fact.kind, fact.category) == (case.kind, case.category) and not after_end


def dump(case: Case) -> bytes:
    """The state as JSON; `load` is its inverse."""
    return msgspec.json.encode(
        {
            "case_id": case.case_id,
            "facts": [fact[1:] if fact.own_only else fact[1:-1] for fact in case.facts],
            "owner": case.owner,
            "counted": case.counted,
            "measured": case.measured,
            "forgotten": case.forgotten,
        }
    )


class _Row(NamedTuple):
    """A fact as `dump` writes it: in its case, whose id it need not repeat."""

    occurred_at: int
    received_at: int
    seq: int
    sender: str
    report_id: str
    kind: str
    category: str
    stage: Stage
    supervision: Supervision | None
    campaign: Campaign | None
    own_only: bool = False


class _State(msgspec.Struct):
    """What `dump` writes."""

    case_id: str
    facts: tuple[_Row, ...]
    counted: tuple[Counted, ...]
    measured: tuple[Standard, ...]
    forgotten: tuple[tuple[str, str], ...]
    owner: str = ""


def load(state: bytes) -> Case:
    """The case `dump` wrote. Raises ValueError for anything else."""
    kept = _read(state)
    facts = tuple([tuple.__new__(Fact, (kept.case_id, *row)) for row in kept.facts])  # sooner than Fact(…)
    return Case(kept.case_id, facts, kept.owner or _first_reporter(facts), kept.counted, kept.measured, kept.forgotten)


_read = msgspec.json.Decoder(_State).decode


def _first_reporter(facts: Iterable[Fact]) -> str:
    """Of a case of the time when none belonged to anybody; as the casebook's upgrade has it, too."""
    return min(facts, key=lambda fact: (fact.stage is not Stage.REPORTED, fact.received_at, fact.seq)).sender
