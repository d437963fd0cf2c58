"""Who goes there, and when: crews that travel, queue and work, the most urgent first, the nearest crew for each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import NamedTuple

from service.simulate.truth import MINUTE, Place


class Job(NamedTuple):
    """What a crew is wanted for. `rank`: the lower, the sooner; `busy`: how long it takes on site. Milliseconds."""

    wanted: int
    rank: int
    place: Place
    busy: int


@dataclass(slots=True)
class Crew:
    """Some people with a vehicle."""

    east: float
    north: float
    free: int = 0

    def metres_to(self, place: Place) -> float:
        """Along the streets, which run east and north."""
        return abs(place.east - self.east) + abs(place.north - self.north)


def visits(jobs: Sequence[Job], crews: Sequence[Crew], speed: Callable[[int], float]) -> Iterator[tuple[int, int]]:
    """For each job (by its index, in the order the crews set out) when a crew is on site.

    `jobs` come in the order they are wanted; `speed(at)` is in metres a minute.
    """
    waiting: list[tuple[int, int, int]] = []
    come, now = 0, 0
    while come < len(jobs) or waiting:
        now = max(now, min(crew.free for crew in crews))
        if not waiting:
            now = max(now, jobs[come].wanted)
        while come < len(jobs) and jobs[come].wanted <= now:
            heappush(waiting, (jobs[come].rank, jobs[come].wanted, come))
            come += 1
        *_, index = heappop(waiting)
        yield index, _send(jobs[index], crews, now, speed(now))


def _send(job: Job, crews: Sequence[Crew], now: int, speed: float) -> int:
    crew = min((crew for crew in crews if crew.free <= now), key=lambda crew: crew.metres_to(job.place))
    there = now + round((1 + crew.metres_to(job.place) / speed) * MINUTE)
    crew.east, crew.north, crew.free = job.place.east, job.place.north, there + job.busy
    return there
