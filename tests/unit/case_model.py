"""The rules for cases a second time, naively: all facts told as one story, from scratch, at every question.

Written from the words of the design, not from `service.domain`, whose facts are its only common ground.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.domain.case import Campaign, Fact

LEVELS: list[str | None] = ["none", "pressed", "supervised", "urgent"]


@dataclass
class Story:
    """What is true of a case when its facts are told in the order they happened. Times in epoch ms."""

    kind: str
    category: str
    starts_with: str
    started: Fact | None = None
    arrived: int | None = None
    arrived_uncancelled: bool = False
    finished: int | None = None
    approved: bool = False
    approved_uncancelled: bool = False
    cancelled: int | None = None
    on_hold: bool = False
    level: str | None = "none"
    campaign: Campaign | None = None
    reopenings: int = 0

    def tell(self, fact: Fact) -> None:
        at, stage = fact.occurred_at, fact.stage.value
        said = [level for level in (self.level, fact.supervision, stage) if level in LEVELS]
        self.level = max(said, key=LEVELS.index)
        self.campaign = fact.campaign or self.campaign
        if stage == self.starts_with and self.started is None:
            self.started = fact
        if stage in ("arrived", "finished") and self.arrived is None:
            self.arrived, self.arrived_uncancelled = at, self.cancelled is None
        if stage == "finished" and self.finished is None:
            self.finished = at
        if stage == "approved" and not self.approved:
            self.approved, self.approved_uncancelled = True, self.cancelled is None
        if stage == "returned":
            self.finished, self.approved, self.reopenings = None, False, self.reopenings + 1
        if stage == "cancelled" and self.cancelled is None:
            self.cancelled = at
        if stage in ("suspended", "resumed", "finished"):
            self.on_hold = stage == "suspended"

    @property
    def phase(self) -> str:
        phases = {
            "cancelled": self.cancelled is not None,
            "approved": self.approved,
            "suspended": self.on_hold,
            "awaiting_approval": self.finished is not None,
            "in_progress": self.arrived is not None,
        }
        return next((phase for phase, so in phases.items() if so), "awaiting_arrival")


@dataclass
class Model:
    """One case: every fact ever sent, as it was sent; and the totals it was counted into."""

    limits: Mapping[tuple[str, str, str], int]  # seconds by kind, standard, category
    grace_ms: int
    clock_start: Mapping[str, str]
    sent: list[Fact] = field(default_factory=list)
    outcomes: dict[str, str] = field(default_factory=dict)
    totals: Counter[tuple[str, str, bool]] = field(default_factory=Counter)  # standard, outcome, is correction

    @property
    def once(self) -> Sequence[Fact]:
        """Each id as it was sent first, in the order they came."""
        once: dict[tuple[str, str], Fact] = {}
        for fact in self.sent:
            once.setdefault((fact.sender, fact.report_id), fact)
        return list(once.values())

    @property
    def facts(self) -> Sequence[Fact]:
        return sorted(self.once, key=lambda fact: (fact.occurred_at, fact.received_at, fact.seq))

    @property
    def owner(self) -> str:
        reported = [fact for fact in self.once if fact.stage.value == "reported"]
        return (reported or self.once)[0].sender

    @property
    def heard(self) -> Sequence[Fact]:
        return [fact for fact in self.facts if fact.sender == self.owner or not fact.own_only]

    def story(self) -> Story:
        named = next((fact for fact in self.heard if fact.stage.value == "reported"), self.heard[0])
        story = Story(named.kind, named.category, self.clock_start[named.kind])
        for fact in self.heard:
            story.tell(fact)
        return story

    def deadline(self, standard: str) -> tuple[int, int] | None:
        """The deadline, and when it counts as passed."""
        story = self.story()
        limit = self.limits.get((story.kind, standard, story.category))
        if story.started is None or limit is None:
            return None
        deadline = story.started.occurred_at + limit * 1000
        return deadline, max(deadline, story.started.received_at) + self.grace_ms

    def truth(self, standard: str, now: int) -> str | None:
        story, times = self.story(), self.deadline(standard)
        if times is None:
            return None
        deadline, passed = times
        if standard == "arrival":
            decided, uncancelled, done = story.arrived is not None, story.arrived_uncancelled, story.arrived
        else:
            decided, uncancelled, done = story.approved, story.approved_uncancelled, story.finished
        if story.cancelled is not None and story.cancelled < deadline and not (decided and uncancelled):
            return None
        if not decided and now < passed:
            return None
        return "met" if done is not None and done <= deadline else "breached"

    def judge(self, now: int) -> None:
        for standard in ("arrival", "completion"):
            truth = self.truth(standard, now)
            if truth is not None and truth != self.outcomes.get(standard):
                self.totals[standard, truth, standard in self.outcomes] += 1
                self.outcomes[standard] = truth

    def overdue(self, standard: str, now: int) -> bool:
        story, times = self.story(), self.deadline(standard)
        done = story.arrived if standard == "arrival" else story.finished
        closed = story.approved or story.cancelled is not None
        return times is not None and not closed and done is None and now > times[0]
