"""One question about a case under the rules, for tests that ask just one. The product assesses a case once."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.words import Standard
from service.domain.case import Case, Fact
from service.domain.flags import CaseFlag
from service.domain.standards import Assessment, Rules, Transition, Verdict


def judge(case: Case, now_ms: int, rules: Rules) -> tuple[Case, tuple[Transition, ...]]:
    after = Assessment(case.copy(), rules)
    transitions = after.judge(now_ms)
    return after.case, tuple(transitions)


def measure(case: Case, rules: Rules) -> tuple[Case, Mapping[Standard, float]]:
    after = Assessment(case.copy(), rules)
    seconds = after.measure()
    return after.case, seconds


def next_due_ms(case: Case, rules: Rules) -> int | None:
    return Assessment(case, rules).next_due_ms


def is_due(case: Case, now_ms: int, rules: Rules) -> bool:
    return Assessment(case, rules).is_due(now_ms)


def verdict(case: Case, standard: Standard, rules: Rules) -> Verdict | None:
    return Assessment(case, rules).standards[standard].verdict


def start(case: Case, rules: Rules) -> Fact | None:
    return Assessment(case, rules).started


def running_deadline(case: Case, standard: Standard, rules: Rules) -> int | None:
    return Assessment(case, rules).running_deadline(standard)


def is_overdue(case: Case, standard: Standard, now_ms: int, rules: Rules) -> bool:
    return Assessment(case, rules).is_overdue(standard, now_ms)


def flags(case: Case, rules: Rules) -> tuple[CaseFlag, ...]:
    return Assessment(case, rules).flags
