"""Which reports a reader wants. What it does not want is passed over, and its place remembered all the same."""

from collections.abc import Collection
from dataclasses import dataclass

from .report import Report


@dataclass(frozen=True, slots=True)
class Selection:
    """Empty: no matter. A code selects all that begins with it: category `02` is a whole major class, a street's 9
    digits all its communities.

    Only a case's first report has to name a street. So `streets` selects *cases*: those of which some report has named
    one of the streets, from that report on.
    """

    kinds: Collection[str] = ()
    categories: Collection[str] = ()
    streets: Collection[str] = ()

    def wants(self, report: Report) -> bool:
        """Whether its kind and category are wanted; its street is another question."""
        if self.kinds and report.kind not in self.kinds:
            return False
        return not self.categories or report.category.startswith(tuple(self.categories))

    def names_street(self, report: Report) -> bool:
        """Whether it names one of the streets."""
        street = report.street
        return street is not None and street.startswith(tuple(self.streets))
