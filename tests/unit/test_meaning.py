"""What a well-formed report means to the district: where it goes, what is odd about it, or why it means nothing."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.catalogue import Catalogue
from schemas.reasons import Reason
from schemas.report import Problem, load
from service.domain.meaning import Flag, Meaning, examine
from tests.unit.messages import NOW

CATALOGUE = Catalogue.load()


def meaning(accept_unknown_minor: bool = False, **changes: Any) -> Meaning | Problem:
    fields = {
        "report_id": "r-1",
        "case_id": "c-1",
        "kind": "repair",
        "category": "0211",
        "stage": "arrived",
        "occurred_at": NOW,
    }
    report = load(fields | changes, now_ms=NOW)
    return examine(report, CATALOGUE, now_ms=NOW, accept_unknown_minor=accept_unknown_minor)


def flags(**changes: Any) -> tuple[Flag, ...]:
    found = meaning(accept_unknown_minor=True, **changes)
    assert isinstance(found, Meaning)
    return found.flags


def test_a_known_category_goes_to_the_topic_of_its_major_class() -> None:
    found = meaning()

    assert isinstance(found, Meaning)
    assert found.major.topic == "gridgov.repair.road-traffic"
    assert found.category is not None
    assert found.category.code == "0211"
    assert found.flags == ()


def test_the_same_digits_mean_something_else_for_the_other_kind() -> None:
    repair, incident = meaning(category="0101"), meaning(kind="incident", category="0101")

    assert isinstance(repair, Meaning)
    assert isinstance(incident, Meaning)
    assert (repair.major.topic, incident.major.topic) == (
        "gridgov.repair.public-utilities",
        "gridgov.incident.city-appearance",
    )


def test_open_codes_need_no_entry() -> None:
    unlisted = [(kind, f"{major}99") for kind, major in CATALOGUE.majors]
    unlisted = [place for place in unlisted if place not in CATALOGUE.categories]
    assert unlisted

    for kind, category in unlisted:
        found = meaning(kind=kind, category=category)
        assert isinstance(found, Meaning)
        assert (found.category, found.flags) == (None, ())


def test_an_unknown_minor_class_is_refused_or_flagged_as_configured() -> None:
    refused, accepted = meaning(category="0288"), meaning(accept_unknown_minor=True, category="0288")

    assert refused == Problem("/category", Reason.UNKNOWN_CATEGORY)
    assert isinstance(accepted, Meaning)
    assert accepted.major.topic == "gridgov.repair.road-traffic"
    assert (accepted.category, accepted.flags) == (None, (Flag.UNKNOWN_MINOR,))


@pytest.mark.parametrize("accept", [True, False])
def test_an_unknown_major_class_has_no_topic_and_is_always_refused(accept: bool) -> None:
    assert meaning(accept_unknown_minor=accept, category="8801") == Problem("/category", Reason.UNKNOWN_CATEGORY)


def test_a_category_of_the_other_kind_is_told_as_such() -> None:
    for kind, other in (("repair", "incident"), ("incident", "repair")):
        only_there = next(
            code
            for the_kind, code in CATALOGUE.categories
            if the_kind == other
            and (kind, code) not in CATALOGUE.categories
            and (kind, code[:2]) in CATALOGUE.majors
            and code[2:] != "99"
        )
        assert meaning(True, kind=kind, category=only_there) == Problem(
            "/category", Reason.CATEGORY_OF_OTHER_KIND, {"kind": other}
        )


INSIDE, OUTSIDE = (121.49, 31.26), (121.60, 31.26)


@pytest.mark.parametrize("crs", ["WGS84", "CGCS2000", "GCJ02", "BD09"])
def test_a_point_outside_the_district_is_flagged_not_refused(crs: str) -> None:
    def at(x: float, y: float) -> tuple[Flag, ...]:
        return flags(location={"address": "路口", "x": x, "y": y, "crs": crs})

    assert at(*INSIDE) == ()
    assert at(*OUTSIDE) == (Flag.OUTSIDE_DISTRICT,)


@pytest.mark.parametrize("crs", ["SH2000", "SHLOCAL"])
def test_plane_coordinates_are_not_compared_with_a_box_in_degrees(crs: str) -> None:
    assert flags(location={"address": "路口", "x": 1_500.0, "y": -2_000.0, "crs": crs}) == ()


def test_a_place_without_a_point_is_nowhere_outside() -> None:
    assert flags(location={"address": "路口"}) == ()
    assert flags() == ()


@pytest.mark.parametrize(("ahead", "expected"), [(-1, ()), (0, ()), (1, (Flag.AHEAD_OF_CLOCK,))])
def test_what_happened_after_we_heard_of_it_is_flagged(ahead: int, expected: tuple[Flag, ...]) -> None:
    assert flags(occurred_at=NOW + ahead) == expected


def test_everything_odd_is_told_together() -> None:
    x, y = OUTSIDE
    place = {"address": "a 13812345678", "x": x, "y": y, "crs": "WGS84"}
    odd = flags(category="0288", occurred_at=NOW + 1, location=place)

    assert set(odd) == set(Flag)
