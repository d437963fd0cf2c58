"""What a well-formed report means to this district: its topic, its names, and what is odd about it."""

from enum import StrEnum
from itertools import compress

from msgspec import Struct

from schemas.catalogue import Catalogue, Category, Major, Standing
from schemas.reasons import Reason
from schemas.report import Problem, Report, geographic_xy


class Flag(StrEnum):
    """What is odd about a report that is accepted all the same."""

    UNKNOWN_MINOR = "unknown_minor"  # its major class is ours, its minor class is not
    OUTSIDE_DISTRICT = "outside_district"  # geographic coordinates outside the district's box
    PERSONAL_DATA_MASKED = "personal_data_masked"  # its free text held numbers of persons, which are masked now
    AHEAD_OF_CLOCK = "ahead_of_clock"  # it happened after we received it, by the sender's clock


class Meaning(Struct, frozen=True, gc=False):
    """Where the report goes, and what is odd about it."""

    major: Major
    category: Category | None  # None for an open local code, or an unknown minor class
    flags: tuple[Flag, ...]


def examine(report: Report, catalogue: Catalogue, *, now_ms: int, accept_unknown_minor: bool) -> Meaning | Problem:
    """The report's meaning, or what makes it mean nothing here."""
    verdict = catalogue.lookup(report.kind, report.category)
    if verdict.standing is Standing.OTHER_KIND:
        other = "incident" if report.kind == "repair" else "repair"
        return Problem("/category", Reason.CATEGORY_OF_OTHER_KIND, {"kind": other})
    unknown = verdict.standing is Standing.UNKNOWN_MINOR
    if verdict.major is None or (unknown and not accept_unknown_minor):
        return Problem("/category", Reason.UNKNOWN_CATEGORY)
    point = geographic_xy(report)
    # in the order of `Flag`
    odd = (unknown, point and not catalogue.box.contains(*point), report.masked, report.occurred_at_ms > now_ms)
    return Meaning(verdict.major, verdict.category, tuple(compress(Flag, odd)) if any(odd) else ())
