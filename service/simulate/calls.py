"""What is found in the district in a day: where, when, of which kind, and how urgent.

The rhythm, the shares and the lengths are invented, such that the trade would know the picture; none of them
is a promise. All that is random comes from the generator that is given.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from schemas.catalogue import Catalogue, Category
from schemas.words import Kind, Source, Supervision
from service.simulate.truth import DAY, HOUR, MINUTE, Place


class Scenario(StrEnum):
    """What can befall a day."""

    RAIN = "rain"  # 15:00–17:30: flooded roads, slow travel
    RETRY_STORM = "retry-storm"  # 10:30–10:50: the platform gets no answer in time, and sends all of it again
    OPERATION = "operation"  # from 07:00 to 20:00: an assurance operation as for the CIIE, urgently supervised


RAIN = (15 * HOUR, 17 * HOUR + 30 * MINUTE)
OPERATION = (7 * HOUR, 20 * HOUR)
RHYTHM = (1, 1, 1, 1, 1, 2, 6, 10, 12, 11, 10, 8, 7, 9, 11, 10, 9, 9, 7, 5, 4, 3, 2, 1)  # reports by hour of the day
SHARE = {Kind.INCIDENT: 0.6, Kind.REPAIR: 0.4}  # of all cases
# By code; what is not listed counts 1. The street's trouble is parked, sold and left lying about in few ways.
OFTEN = {
    Kind.INCIDENT: {"0506": 14, "0501": 10, "0505": 10, "0504": 8, "0102": 8, "0104": 8, "0201": 6, "0507": 5},
    Kind.REPAIR: {"0118": 8, "0211": 8, "0102": 6, "0103": 6, "0305": 6, "0209": 5, "0402": 5, "0212": 4},
}
WET = {Kind.INCIDENT: {"0406": 12, "0404": 4, "0408": 1}, Kind.REPAIR: {"0104": 3, "0103": 3, "0402": 3, "0210": 1}}
SOURCES = {Source.INSPECTOR: 50, Source.VIDEO: 18, Source.CITIZEN: 15, Source.HOTLINE: 14, Source.IOT: 3}
ROADS = ("东大名路", "杨树浦路", "公平路", "霍山路", "唐山路", "大连路", "东长治路", "高阳路", "舟山路", "临潼路")
METRES_A_DEGREE = (95_400.0, 110_900.0)  # of longitude and latitude, at 31°N
MARGIN = 0.012  # degrees that stay free along the edges of the district's box


@dataclass(frozen=True, slots=True)
class Setting:
    """What the days are made of; `cases` is how many a dry day has."""

    catalogue: Catalogue
    cases: int = 400
    scenarios: frozenset[Scenario] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Somebody has seen something. `reported` is in milliseconds of the day."""

    kind: Kind
    category: Category
    place: Place
    source: Source
    supervision: Supervision
    in_operation: bool
    reported: int


def calls(random: Random, setting: Setting) -> list[Call]:
    """The calls of one day, in the order they come."""
    found = [_call(random, setting, _hour(random), OFTEN) for _ in range(setting.cases)]
    if Scenario.RAIN in setting.scenarios:
        begin, end = RAIN
        found += [_call(random, setting, random.randrange(begin, end), WET) for _ in range(setting.cases // 6)]
    return sorted(found, key=lambda call: call.reported)


def is_wet(setting: Setting, at: int) -> bool:
    """Whether it rains."""
    return Scenario.RAIN in setting.scenarios and RAIN[0] <= at % DAY < RAIN[1]


def _hour(random: Random) -> int:
    [hour] = random.choices(range(24), RHYTHM)
    return hour * HOUR + random.randrange(HOUR)


def _call(random: Random, setting: Setting, at: int, often: Mapping[Kind, Mapping[str, int]]) -> Call:
    [kind] = random.choices(list(SHARE), list(SHARE.values()))
    in_operation = (
        Scenario.OPERATION in setting.scenarios and OPERATION[0] <= at < OPERATION[1] and random.random() < 0.15
    )
    [source] = random.choices(list(SOURCES), list(SOURCES.values()))
    return Call(
        kind=kind,
        category=_category(random, setting.catalogue, kind, often[kind], usual=often is OFTEN),
        place=_place(random, setting.catalogue),
        source=Source.CAMPAIGN if in_operation else source,
        supervision=_supervision(random, in_operation),
        in_operation=in_operation,
        reported=at,
    )


def _category(random: Random, catalogue: Catalogue, kind: Kind, often: Mapping[str, int], *, usual: bool) -> Category:
    listed = [one for one in catalogue.categories.values() if one.kind == kind]
    weights = [often.get(one.code, int(usual)) for one in listed]
    [found] = random.choices(listed, weights if any(weights) else None)  # a district's own table may have no such code
    return found


def _supervision(random: Random, in_operation: bool) -> Supervision:
    if in_operation:
        return Supervision.URGENT if random.random() < 0.4 else Supervision.SUPERVISED
    return Supervision.SUPERVISED if random.random() < 0.01 else Supervision.NONE


def _place(random: Random, catalogue: Catalogue) -> Place:
    box = catalogue.box
    lon = random.uniform(box.min_lon + MARGIN, box.max_lon - MARGIN)
    lat = random.uniform(box.min_lat + MARGIN, box.max_lat - MARGIN)
    east, north = ((lon - box.min_lon) * METRES_A_DEGREE[0], (lat - box.min_lat) * METRES_A_DEGREE[1])
    along, near = random.sample(ROADS, 2)
    street = random.choice(list(catalogue.streets)) if catalogue.streets else None
    address = f"{along}{random.randrange(1, 900)}号近{near}"
    return Place(east, north, address, street, round(lon, 6), round(lat, 6))
