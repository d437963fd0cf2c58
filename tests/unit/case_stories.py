"""Cases told in a line: `reported@0 arrived@60/90` was reported, and 60 s later somebody came, heard of at 90 s."""

from typing import Any

from schemas.catalogue import Catalogue
from schemas.words import Stage, Standard
from service.domain.case import Case, Fact, apply
from service.domain.standards import Rules, Transition
from tests.unit.assess import judge, next_due_ms

T0 = 1_603_670_400_000  # 2020-10-26T00:00:00Z, the first day of the formal run
RULES = Rules(Catalogue.load().limit)
DAY = 86_400
RAILING, STALL = "0211", "0604"
ARRIVAL, COMPLETION = Standard


def ms(seconds: float) -> int:
    return T0 + round(1000 * seconds)


def fact(word: str, seq: int, by_default: str, **stated: Any) -> Fact:
    """`stage@occurred` or `stage@occurred/received`, the receipt the same moment if left out."""
    stage, _, times = word.partition("@")
    occurred, _, received = times.partition("/")
    category = RAILING if by_default == "repair" else STALL
    named = {"kind": by_default, "category": category} | stated
    return Fact(
        "case", ms(float(occurred)), ms(float(received or occurred)), seq, "s", f"r{seq}", stage=Stage(stage), **named
    )


def told(kind: str, words: str) -> list[Fact]:
    return [fact(word, seq, kind) for seq, word in enumerate(words.split())]


def folded(kind: str, words: str) -> Case:
    return fold(told(kind, words))


def fold(facts: list[Fact]) -> Case:
    case = None
    for each in facts:
        case = apply(case, each)
    assert case is not None
    return case


def live(kind: str, words: str, until: float, rules: Rules = RULES) -> tuple[Case, list[Transition]]:
    """Each fact applied and judged as it comes, every due moment on the way kept, up to `until`."""
    case: Case | None = None
    steps: list[Transition] = []
    for each in told(kind, words):
        if case:
            case, late = sweep(case, each.received_at, rules)
            steps += late
        case, more = judge(apply(case, each), each.received_at, rules)
        steps += more
    assert case is not None
    case, late = sweep(case, ms(until), rules)
    return case, steps + late


def sweep(case: Case, until: int, rules: Rules) -> tuple[Case, list[Transition]]:
    steps: list[Transition] = []
    while (due := next_due_ms(case, rules)) is not None and due <= until:
        case, more = judge(case, due, rules)
        assert more, "due, and nothing to tell"
        steps += more
    return case, steps


def short(steps: list[Transition]) -> str:
    """`arrival met, completion corrected to breached`"""
    return ", ".join(f"{s.standard}{' corrected to' * s.is_correction} {s.outcome}" for s in steps)
