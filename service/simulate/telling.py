"""How the platform tells it: each stage as a report, when it is posted and which time stands in it.

A report may come late, twice, or never (`Case.lost`). Two ways to lay the days on the calendar:

- **History** (`Clock.speed` None): they lie where they are said to lie, and all is posted at once, in the order in
  which a platform would have told it. Nothing is bent.
- **Live**: told `speed` times as fast from now on. No service lets reports of the future in or has its clock turned; so
  the *lengths* up to its last finish stay true, which is what standards are about, and each case is laid so that it is
  finished when that is posted. A case that is in time is then never seen overdue while it is open; one that will be
  late is so from its first report on. Twenty-four hours and a quarter of one do not both fit into a clock that runs
  sixty times as slow: a repair is therefore first posted when somebody is there, or when it is too late for that.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from random import Random
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson

from schemas.words import Kind, Source, Stage, Standard, Supervision
from service.simulate.calls import Scenario
from service.simulate.expected import PHASE, Limit
from service.simulate.truth import DAY, HOUR, MINUTE, SECOND, Case

LATE, MOST_LATE = 0.03, 3 * HOUR
AGAIN = 0.02  # of the reports are sent twice, for no answer came
STORM = (10 * HOUR + 30 * MINUTE, 10 * HOUR + 50 * MINUTE)
STORM_AGAIN = (20 * SECOND, 50 * SECOND, 110 * SECOND)
OPERATION = {"name": "进博会保障", "phase": PHASE, "level": "一级"}
SOURCE_NAMES = {
    Source.INSPECTOR: "网格监督员",
    Source.CAMPAIGN: "保障巡查",
    Source.VIDEO: "视频巡屏",
    Source.CITIZEN: "随手拍",
    Source.HOTLINE: "12345热线",
    Source.IOT: "物联感知",
}
CREWS = {
    "01": ("BWT-01", "市政设施养护队"),
    "02": ("BWT-02", "道路设施养护队"),
    "04": ("BWT-03", "绿化养护队"),
    "05": ("BWT-05", "市容管理队"),
}
NOBODY = {"name": "虚构市民", "phone": "00000000000"}  # personal data that must not get through; nobody's


class Post(NamedTuple):
    """One report to be posted, `after` seconds from the beginning. `again`: it was posted before."""

    after: float
    case_id: str
    line: bytes
    again: bool


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the simulated days lie. `began_ms`: epoch ms of simulated `begin`, in ms since the first midnight."""

    began_ms: int
    zone: ZoneInfo
    speed: float | None = None
    begin: int = 0

    def wall(self, at: int) -> int:
        """Milliseconds from the beginning until `at` is reached; what lies before it was as long ago as it says."""
        since = at - self.begin
        return since if since < 0 or self.speed is None else round(since / self.speed)

    def occurred(self, at: int, bend: int) -> str:
        """The time in a report of a case whose lengths are true up to `bend`, which lies where the wall has it."""
        ms = self.began_ms + (self.wall(at) if at > bend else self.wall(bend) - (bend - at))
        return datetime.fromtimestamp(ms / 1000, UTC).astimezone(self.zone).isoformat(timespec="milliseconds")


def run_id(clock: Clock, *said: object) -> str:
    """What the ids of a run begin with: the same for the same days and words, so that posting it twice is harmless."""
    began = datetime.fromtimestamp(clock.began_ms / 1000, clock.zone)
    return f"sim-{began:%Y%m%d%H%M%S}-{blake2b(repr(said).encode(), digest_size=3).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Telling:
    """How the cases of one run are told."""

    clock: Clock
    limit: Limit
    run: str
    seed: int
    scenarios: frozenset[Scenario] = frozenset()

    def posts(self, cases: Iterable[Case]) -> tuple[Post, ...]:
        """Every post, in the order of the platform's clock."""
        found = sorted((one for case in cases for one in self._of_case(case)), key=lambda one: one[0])
        return tuple(post for _, post in found)

    def over_ms(self, cases: Iterable[Case]) -> int:
        """When all of it has happened and every deadline has passed, in epoch milliseconds."""
        return self.clock.began_ms + max(
            self.clock.wall(max(_bend(case, self.limit), *(at for at, _ in case.told()))) for case in cases
        )

    def case_id(self, case: Case) -> str:
        """The id of a case; they sort by number, up to a million."""
        return f"{self.run}-{case.number:06d}"

    def _of_case(self, case: Case) -> Iterator[tuple[int, Post]]:
        """Each post of it, and when the platform's clock says so."""
        random = Random(f"{self.seed}/told/{case.number}")  # noqa: S311 - a model, not a secret
        live = self.clock.speed is not None
        name, bend, hold = self.case_id(case), _bend(case, self.limit), _hold(case, self.limit) if live else 0
        for count, (at, stage) in enumerate(sorted(case.told()), start=1):
            ids = {"report_id": f"{name}-{count:02d}", "case_id": name, "occurred_at": self.clock.occurred(at, bend)}
            line, delay = orjson.dumps(ids | _report(case, stage)), _delay(random)
            first = hold if at == hold else max(hold, at + delay)
            for told in (first, *_repeats(random, first, self.scenarios)):
                after = max(0, self.clock.wall(told)) / 1000 if live else 0.0
                yield told, Post(after, name, line, told != first)


def _bend(case: Case, limit: Limit) -> int:
    """Up to when the lengths within a case are judged: its last finish, or the deadline that it does not make."""
    if case.cancelled is not None:
        return case.cancelled
    if case.last is not None and case.last.approved is not None:
        return case.last.finished
    promised = [limit(case.kind, standard, case.category) or 0 for standard in Standard]
    return max(case.reported + max(promised) * SECOND, *(at for at, _ in case.told()))


def _hold(case: Case, limit: Limit) -> int:
    """Until when a live telling keeps a case whose arrival is promised: somebody is there, or it is too late."""
    promised = limit(case.kind, Standard.ARRIVAL, case.category)
    if promised is None:
        return 0
    seen = [at for at, stage in case.told() if stage in {Stage.ARRIVED, Stage.FINISHED, Stage.CANCELLED}]
    return min([case.reported + promised * SECOND, *seen])


def _delay(random: Random) -> int:
    if random.random() < LATE:
        return min(MOST_LATE, round(random.expovariate(1 / (20 * MINUTE))))
    return random.randrange(SECOND, 20 * SECOND)


def _repeats(random: Random, first: int, scenarios: frozenset[Scenario]) -> Iterator[int]:
    """When a report is posted again."""
    if random.random() < AGAIN:
        yield first + random.randrange(5 * SECOND, 60 * SECOND)
    if Scenario.RETRY_STORM in scenarios:
        begin, end = STORM
        if begin <= first % DAY < end:
            yield from (first + wait for wait in STORM_AGAIN)
        elif begin - HOUR <= first % DAY < begin:  # what it is no longer sure of
            yield first - first % DAY + random.randrange(begin, end)


# ---- what stands in it ----


def _report(case: Case, stage: Stage) -> dict[str, Any]:
    told: dict[str, Any] = {"kind": case.kind, "category": case.category, "stage": stage}
    if case.supervision is not Supervision.NONE:
        told["supervision"] = case.supervision
    if case.in_operation:
        told["campaign"] = OPERATION
    return told | (_SAID[stage](case) if stage in _SAID else {})


def _found(case: Case) -> dict[str, Any]:
    place = case.place
    location = {"address": place.address, "x": place.lon, "y": place.lat, "crs": "WGS84"}
    if place.street_code:
        location["street_code"] = place.street_code
    told = {"location": location, "description": f"{place.address}，{case.words}"}
    if case.source in SOURCE_NAMES:
        told |= {"source": case.source, "source_name": SOURCE_NAMES[case.source]}
    return told | ({"reporter": NOBODY} if case.source in (Source.CITIZEN, Source.HOTLINE) else {})


def _sent(case: Case) -> dict[str, Any]:
    code, name = CREWS.get(case.category[:2], ("BWT-00", "综合保障队"))
    return {"handler": {"unit_code": f"{code}-{'S' if case.kind is Kind.INCIDENT else 'B'}", "unit_name": name}}


_SAID: dict[Stage, Callable[[Case], dict[str, Any]]] = {
    Stage.REPORTED: _found,
    Stage.DISPATCHED: _sent,
    Stage.RETURNED: lambda _: {"description": "核查未通过，退回返工"},
    Stage.SUSPENDED: lambda _: {"description": "等待配件"},
    Stage.PRESSED: lambda _: {"description": "请加快处置"},
    Stage.NOTE: lambda _: {"description": "已设警示，现场安全"},
}
