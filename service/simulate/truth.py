"""What really happened to a case of the simulation, whether it was ever told or not.

All times are whole milliseconds since midnight of the first simulated day, on the district's clocks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from schemas.words import Kind, Source, Stage, Supervision

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000


class Place(NamedTuple):
    """Where: metres from the district's south-western corner, and what stands in a report."""

    east: float
    north: float
    address: str
    street_code: str | None
    lon: float
    lat: float


class Round(NamedTuple):
    """One go at the work: it ends approved, sent back, first one and then the other (reopened), or not at all."""

    finished: int
    approved: int | None = None
    returned: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case. `lost`: a stage of which no report ever comes; of several finishes it is the last one's."""

    number: int
    kind: Kind
    category: str
    words: str  # what is wrong, as the table calls it
    place: Place
    source: Source
    supervision: Supervision = Supervision.NONE
    in_operation: bool = False
    reported: int
    dispatched: int
    cancelled: int | None = None  # before anybody went there
    arrived: int | None = None
    rounds: tuple[Round, ...] = ()
    asides: tuple[tuple[int, Stage], ...] = ()
    lost: Stage | None = None

    @property
    def last(self) -> Round | None:
        """The round that stands."""
        return self.rounds[-1] if self.rounds else None

    def told(self) -> Iterator[tuple[int, Stage]]:
        """Every stage of which a report comes, and when it happened."""
        yield from self.asides
        if self.cancelled is not None:
            yield self.cancelled, Stage.CANCELLED
        for stage, at in ((Stage.REPORTED, self.reported), (Stage.DISPATCHED, self.dispatched)):
            if stage is not self.lost and (self.cancelled is None or at < self.cancelled):
                yield at, stage
        if self.arrived is not None and self.lost is not Stage.ARRIVED:
            yield self.arrived, Stage.ARRIVED
        for one in self.rounds:
            if not (one is self.last and self.lost is Stage.FINISHED):
                yield one.finished, Stage.FINISHED
            if one.approved is not None:
                yield one.approved, Stage.APPROVED
            if one.returned is not None:
                yield one.returned, Stage.RETURNED
