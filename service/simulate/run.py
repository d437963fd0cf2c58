"""A run of the simulation: which days, how they are told, and what must come of it."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from schemas.times import format_time
from service.simulate.calls import Setting
from service.simulate.day import days
from service.simulate.expected import Expected, figures, of_case
from service.simulate.telling import Clock, Post, Telling, run_id
from service.simulate.truth import DAY


class Words(NamedTuple):
    """What was asked for."""

    seed: int
    days: int
    setting: Setting

    def said(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "seed": self.seed,
            "days": self.days,
            "cases_a_day": self.setting.cases,
            "scenarios": sorted(self.setting.scenarios),
            "edition": self.setting.catalogue.edition,
        }


@dataclass(frozen=True, slots=True)
class Run:
    """The same words on the same clock make the same run.

    `name`: what the ids of its cases begin with. `expected`: by case id. `over_ms`: when nothing is left undecided.
    """

    name: str
    words: Words
    clock: Clock
    posts: tuple[Post, ...]
    expected: dict[str, Expected]
    over_ms: int

    @classmethod
    def of(cls, words: Words, clock: Clock) -> Self:
        """The run that was asked for."""
        limit, scenarios = words.setting.catalogue.limit, words.setting.scenarios
        cases = days(words.seed, words.setting, words.days)
        name = run_id(clock, *words.said().values(), clock.speed, clock.begin)
        telling = Telling(clock, limit, name, words.seed, scenarios)
        expected = {telling.case_id(case): of_case(case, limit) for case in cases}
        return cls(name, words, clock, telling.posts(cases), expected, telling.over_ms(cases))

    @property
    def reports(self) -> int:
        """How many different ones are posted."""
        return sum(not post.again for post in self.posts)

    def figures(self) -> list[dict[str, Any]]:
        """The rows of `gridgov standards` that must come of it."""
        return figures(self.expected.values())

    def document(self) -> dict[str, Any]:
        """All that is expected, as JSON has it."""
        began = self.clock.began_ms
        return {
            "run": self.name,
            **self.words.said(),
            "since": format_time(began),
            "until": format_time(began + self.words.days * DAY) if self.clock.speed is None else None,
            "over": format_time(self.over_ms),
            "reports": self.reports,
            "posts": len(self.posts),
            "figures": self.figures(),
            "cases": {name: one._asdict() for name, one in self.expected.items()},
        }
