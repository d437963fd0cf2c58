"""A case as the sink keeps it: what gridgov's own fold makes of the same facts, in whatever order they are read.

The topics are read in parallel, and may be read long after. So a case is judged as of the moments its reports came to
gridgov, not to us: where a fact came to gridgov before what is folded already, the whole case is folded anew, in the
order its facts came there. What results depends on the facts and on the time alone, and equals `GET /v1/cases`.
"""

from collections.abc import Iterable
from typing import NamedTuple

from service.domain.case import Case, Fact
from service.domain.standards import Assessment, Rules


class Kept(NamedTuple):
    """A case under the rules, judged as of a moment (Unix ms)."""

    assessed: Assessment
    as_of: int

    def judged(self, now: int) -> "Kept":
        """The same at this moment, or at its own if that is later: what is due by then is told."""
        after, now = self.assessed.copy(), max(now, self.as_of)
        after.judge(now)
        return Kept(after, now)


def kept(case: Case, as_of: int, rules: Rules) -> Kept:
    """A case as it was kept before."""
    return Kept(Assessment(case, rules), as_of)


def fold(known: Kept | None, facts: Iterable[Fact], rules: Rules) -> Kept:
    """The case with these facts, of which there is at least one. What is there already changes nothing."""
    news = sorted(facts, key=_came)
    if known is None:
        return _folded(None, news, rules)
    if _came(news[0]) > max((known.as_of, 0), *map(_came, known.assessed.case.facts)):
        return _folded(known, news, rules)
    every = sorted((*known.assessed.case.facts, *news), key=_came)
    return _folded(None, every, rules).judged(known.as_of)


def _folded(known: Kept | None, facts: list[Fact], rules: Rules) -> Kept:
    assessed = known.assessed.copy() if known else None
    for fact in facts:
        if assessed is None:
            assessed = Assessment(Case.of(fact), rules)
        else:
            assessed.judge(fact.received_at)  # as the sweep would have, had it come by
            assessed.add(fact)
        assessed.judge(fact.received_at)
    assert assessed is not None
    return Kept(assessed, max(known.as_of if known else 0, facts[-1].received_at))


def _came(fact: Fact) -> tuple[int, int]:
    return fact.received_at, fact.seq
