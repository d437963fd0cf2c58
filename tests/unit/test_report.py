"""The report: every problem at once, one canonical form, nothing of the reporter anywhere."""

import json
import re
import string
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.fields import CLEAN, Part
from schemas.reasons import Lang, Reason, message
from schemas.report import SCHEMA, Invalid, Problem, Report, geographic_xy, load
from schemas.times import EARLIEST_MS, format_time, parse_time
from schemas.wire import canonical, parse
from schemas.words import Crs, Kind, Stage, Supervision

NOW_MS = 1_604_448_000_000  # 2020-11-04T00:00:00Z
CANARY = "13812345678"
LANGS: tuple[Lang, ...] = ("zh", "en")
MINIMAL: dict[str, Any] = {
    "report_id": "r-1",
    "case_id": "c-1",
    "kind": "repair",
    "category": "0211",
    "stage": "note",
    "occurred_at": "2020-11-04T08:00:00+08:00",
}
NAMES = st.sampled_from([*MINIMAL, "location", "reporter", "extra", "attachments", "campaign", "x", "_schema", ""])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(-(10**400))
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def take(**changes: Any) -> Report:
    return load(MINIMAL | changes, now_ms=NOW_MS)


def judge(value: Any) -> Report | tuple[Problem, ...]:
    try:
        return load(value, now_ms=NOW_MS)
    except Invalid as refused:
        return refused.problems


def problems(**changes: Any) -> list[tuple[str, str]]:
    found = judge(MINIMAL | changes)
    assert not isinstance(found, Report), found
    return [(problem.pointer, problem.reason.value) for problem in found]


def place(**changes: Any) -> dict[str, Any]:
    return {"address": "长治路 1 号", **changes}


def test_the_attributes() -> None:
    report = take(supervision="urgent", campaign={"name": "第三届进博会", "phase": "formal"})
    assert (report.report_id, report.case_id, report.category, report.major) == ("r-1", "c-1", "0211", "02")
    assert (report.kind, report.stage, report.supervision) == (Kind.REPAIR, Stage.NOTE, Supervision.URGENT)
    assert report.occurred_at_ms == NOW_MS
    assert report.campaign == {"name": "第三届进博会", "phase": "formal"}


def test_the_canonical_form_fills_the_one_default() -> None:
    expected = MINIMAL | {"occurred_at": "2020-11-04T00:00:00.000Z", "supervision": "none"}
    assert take().canonical == expected
    assert take().campaign is None


@given(JSON | st.dictionaries(NAMES, JSON))
def test_any_json_is_taken_or_refused_with_problems(value: Any) -> None:
    found = judge(value)
    assert found
    assert isinstance(found, Report) or all(_parameters(p.reason.en) <= set(p.params) for p in found)


@given(NAMES, JSON)
def test_any_field_with_any_value(name: str, value: Any) -> None:
    found = judge(MINIMAL | {name: value})
    if isinstance(found, Report):
        assert parse(canonical(found.canonical)) == found.canonical
    else:
        assert {problem.pointer for problem in found} <= {"", *_pointers(f"/{name}", value)}


@given(st.permutations(list(MINIMAL)))
def test_key_order_does_not_change_the_fingerprint(order: list[str]) -> None:
    shuffled = load({name: MINIMAL[name] for name in order}, now_ms=NOW_MS)
    assert shuffled.fingerprint() == take().fingerprint()


@pytest.mark.parametrize(
    "spelling",
    [
        "2020-11-04T00:00:00Z",
        "2020-11-04t00:00:00.0z",
        "2020-11-04 00:00:00.000000001+00:00",
        "2020-11-03T15:30:00-08:30",
        "2020-11-04 08:00:00",
        "2020-11-04T08:00:00",
        "2020-11-04T08:00:00.000",
        "2020-11-04 08:00:00.000999999",
        "2020-11-04T08:00:00.000+0800",
        "2020-11-04T08:00:00+08",
        "2020-11-03T15:30:00-0830",
        NOW_MS,
        float(NOW_MS),
    ],
)
def test_spelling_of_a_time_does_not_change_the_fingerprint(spelling: str | float) -> None:
    assert take(occurred_at=spelling).fingerprint() == take().fingerprint()


@given(st.integers(-1000, 1000))
def test_spelling_of_a_number_does_not_change_the_fingerprint(metres: int) -> None:
    def at(x: float) -> bytes:
        return take(location=place(x=x, y=0, crs="SHLOCAL"), extra={"n": [x]}).fingerprint()

    assert at(float(metres)) == at(metres)


def test_other_content_has_another_fingerprint() -> None:
    variants = [take(), take(description=""), take(stage="arrived"), take(occurred_at=NOW_MS - 1)]
    variants += [take(reporter={"name": "x"}), take(extra={"a": 1}), take(extra={"a": "1"}), take(extra={"a": True})]
    assert len({report.fingerprint() for report in variants}) == len(variants)
    assert all(len(report.fingerprint()) == 16 for report in variants)


FULL: dict[str, Any] = {
    **MINIMAL,
    "location": {
        "address": "长治路 1 号",
        "street_code": "310109018",
        "grid_code": "31010901800101",
        "component_id": "p-1",
        "x": 121.5,
        "y": 31.25,
        "crs": "WGS84",
    },
    "source": "iot",
    "source_name": "井盖传感器",
    "supervision": "urgent",
    "campaign": {"name": "第三届进博会", "phase": "formal", "level": "一级"},
    "description": "歪斜",
    "attachments": [{"url": "https://a.cn/1", "usage": "report", "media": "image"}],
    "handler": {"unit_code": "u-1", "unit_name": "市容所"},
    "reporter": {"name": "王小明", "phone": "1"},
    "extra": {"a": 1},
}
EMPTY_MEANS_NOTHING = {  # the codes, words and references; the required ones are `required` then
    *("report_id", "case_id", "kind", "category", "stage", "occurred_at", "source", "supervision"),
    *("location.street_code", "location.grid_code", "location.component_id", "location.crs", "campaign.phase"),
    *("attachments.0.url", "attachments.0.usage", "attachments.0.media", "handler.unit_code"),
}
PLACES = [
    *(name for name in FULL),
    *(f"{name}.{inner}" for name in FULL if name != "extra" and isinstance(FULL[name], dict) for inner in FULL[name]),
    *(f"attachments.0.{inner}" for inner in FULL["attachments"][0]),
]


def with_(place: str, value: Any = None, *, left_out: bool = False) -> dict[str, Any]:
    """The full report with one value replaced, or left out."""
    report: dict[str, Any] = json.loads(json.dumps(FULL))
    *above, last = place.split(".")
    holder: Any = report
    for step in above:
        holder = holder[int(step) if step.isdigit() else step]
    if left_out:
        del holder[last]
    else:
        holder[last] = value
    return report


def told(value: Any) -> Any:
    """The canonical bytes and the fingerprint of what is taken; pointers and codes of what is not."""
    found = judge(value)
    if isinstance(found, Report):
        return canonical(found.canonical), found.fingerprint()
    return [(problem.pointer, problem.reason.value) for problem in found]


def test_every_field_is_in_the_full_report() -> None:
    assert FULL.keys() == SCHEMA.fields.keys()
    parts = {name: field.schema for name, field in SCHEMA.fields.items() if isinstance(field, Part)}
    assert {name: FULL[name].keys() for name in parts} == {name: part.fields.keys() for name, part in parts.items()}


@pytest.mark.parametrize("place", PLACES)
def test_null_says_what_leaving_it_out_says(place: str) -> None:
    assert told(with_(place, None)) == told(with_(place, left_out=True))


@pytest.mark.parametrize("place", PLACES)
def test_an_empty_code_word_or_reference_says_what_leaving_it_out_says(place: str) -> None:
    same = told(with_(place, "")) == told(with_(place, left_out=True))
    assert same == (place in EMPTY_MEANS_NOTHING or place.startswith("reporter."))  # who is dropped anyway


def test_what_is_required_is_so_however_nothing_is_said() -> None:
    names = sorted(MINIMAL)
    assert [told({}), told(dict.fromkeys(names)), told(dict.fromkeys(names, ""))] == [
        [(f"/{name}", "required") for name in names]
    ] * 3


@pytest.mark.parametrize("name", ["location", "campaign", "handler", "reporter"])
@pytest.mark.parametrize("nothing", [None, ""])
def test_an_object_that_says_nothing_was_not_given(name: str, nothing: str | None) -> None:
    silent = dict.fromkeys(FULL[name], nothing) | ({"x": None, "y": None} if name == "location" else {})
    without = told(with_(name, left_out=True))
    assert isinstance(without, tuple)
    assert told(with_(name, silent)) == told(with_(name, {})) == told(with_(name, None)) == without


def test_a_place_that_says_nothing_does_not_do_for_what_was_reported() -> None:
    for silent in (None, {}, {"address": None}, {"address": "", "x": None, "crs": ""}):
        assert problems(stage="reported", location=silent) == [("/location", "location_required")]


def test_what_is_not_there_to_be_left_out() -> None:
    assert problems(colour=None) == [("/colour", "unknown_field")]
    assert problems(handler={"colour": ""}) == [("/handler/colour", "unknown_field")]
    assert problems(attachments=[None]) == [("/attachments/0", "null")]
    assert problems(attachments=[{"url": None}, {}]) == [
        ("/attachments/0/url", "required"),
        ("/attachments/1/url", "required"),
    ]


def test_empty_texts_lists_and_free_objects_are_kept() -> None:
    kept = {"description": "", "attachments": [], "extra": {}, "handler": {"unit_code": "u", "unit_name": ""}}
    extra = {"nothing": None, "empty": "", "inside": {"nothing": None}, "list": [None, ""]}
    assert take(**kept).canonical.items() >= kept.items()
    assert take(extra=extra).canonical["extra"] == extra


@pytest.mark.parametrize(
    "place", ["description", "source_name", "location.address", "campaign.level", "handler.unit_name"]
)
def test_a_line_may_end_in_cr_lf(place: str) -> None:
    assert told(with_(place, "a\r\nb\r\n")) == told(with_(place, "a\nb\n"))
    for other in ("a\rb", "a\r", "a\n\rb", "a\r\r\nb"):
        assert told(with_(place, other)) == [("/" + place.replace(".", "/"), "control_character")]


def test_cr_lf_counts_as_one_character_and_is_read_as_one_in_extra_too() -> None:
    assert take(description="\r\n" * 2000).canonical["description"] == "\n" * 2000
    assert problems(description="\r\n" * 2001) == [("/description", "too_long")]
    assert take(extra={"a": ["b\r\nc"]}).fingerprint() == take(extra={"a": ["b\nc"]}).fingerprint()
    assert problems(extra={"a": ["b\rc"]}) == problems(extra={"a\r\n": 1}) == [("/extra", "control_character")]


def test_who_reported_it_is_dropped_and_that_someone_did_is_kept() -> None:
    report = take(reporter={"name": "王小明", "phone": CANARY})
    assert report.canonical["reporter_given"] is True
    assert "reporter" not in report.canonical
    assert report.fingerprint() == take(reporter={"phone": "other"}).fingerprint()
    for shown in (repr(report), str(report.canonical), canonical(report.canonical).decode()):
        assert CANARY not in shown
        assert "王小明" not in shown


@pytest.mark.parametrize(
    "reporter",
    [
        CANARY,
        [CANARY],
        {"phone": int(CANARY)},
        {"phone": CANARY * 5},
        {"phone": CANARY + "\0"},
        {CANARY: 1},
        {"name": {CANARY: CANARY}},
        {"p" + CANARY: None, "name": None},
    ],
)
def test_a_refused_reporter_is_not_repeated(reporter: Any) -> None:
    with pytest.raises(Invalid) as refused:
        take(reporter=reporter)
    texts = [message(p.reason, lang, **p.params) for p in refused.value.problems for lang in LANGS]
    assert CANARY not in f"{refused.value!r} {refused.value} {texts}"
    assert all(problem.pointer.startswith("/reporter") for problem in refused.value.problems)


@pytest.mark.parametrize("name", sorted({*MINIMAL, "location", "source", "description", "extra", "handler"}))
def test_a_refused_value_is_not_repeated(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        take(**{name: [CANARY]})
    texts = [message(p.reason, lang, **p.params) for p in refused.value.problems for lang in LANGS]
    assert CANARY not in f"{refused.value!r} {texts}"


@pytest.mark.parametrize(
    ("key", "pointer"),
    [
        ("colour", "/colour"),
        ("report-id", "/report-id"),
        ("颜色", "/颜色"),
        ("_schema", "/_schema"),
        (CANARY, ""),
        ("p" + CANARY, ""),
        ("a/b~c", ""),
        ("a\n", ""),
        ("", ""),
        ("k" * 65, ""),
    ],
)
def test_an_unknown_key_is_named_if_it_looks_like_a_name(key: str, pointer: str) -> None:
    assert problems(**{key: 1}) == [(pointer, "unknown_field")]


def test_problems_are_many_but_not_without_end() -> None:
    found = problems(**{f"f{number:03}": 1 for number in range(150)})
    assert len(found) == 101
    assert found[-1] == ("", "too_many_problems")


def test_now_is_the_latest_time_but_for_five_minutes() -> None:
    assert take(occurred_at=NOW_MS + 300_000).occurred_at_ms == NOW_MS + 300_000
    assert problems(occurred_at=NOW_MS + 300_001) == [("/occurred_at", "future_time")]


def test_the_earliest_time() -> None:
    assert take(occurred_at=EARLIEST_MS).canonical["occurred_at"] == "2000-01-01T00:00:00.000Z"
    assert problems(occurred_at=EARLIEST_MS - 1) == [("/occurred_at", "out_of_range")]


@given(
    st.datetimes(datetime(2000, 1, 2), datetime(2020, 11, 3)),  # noqa: DTZ001  # the zone is drawn next
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_rfc3339_round_trip(moment: datetime, offset_minutes: int) -> None:
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
    ms = parse_time(zoned.isoformat())
    assert ms == (zoned - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert parse_time(format_time(ms)) == ms


@pytest.mark.parametrize(
    "text",
    [
        " ",
        "2020-11-04",
        "20201104T080000Z",
        "2020-11-04T08:00Z",
        "2020-11-04T08:00:00 +08:00",
        "2020-11-04T08:00:00+8",
        "2020-11-04T08:00:00+080",
        "2020-11-04T08:00:00+08:0",
        "2020-11-04T08:00:00+0860",
        "2020-11-04T08:00:00+08:00:00",
        "2020-11-04T08:00:00+24:00",
        "2020-11-04T08:00:00+24",
        "2020-11-04T08:00:00+08:00[Asia/Shanghai]",
        "2020-11-04T08:00:00.0123456789",
        "2020-11-04T08:00:00.Z",
        "2020-11-04T08:00:00,5Z",
        "2020-11-04_08:00:00Z",
        "2020-11-04T23:59:60Z",
        "2020-11-04T24:00:00Z",
        "2020-11-31T08:00:00Z",
        "0000-01-01T00:00:00Z",
        "2020-11-04T08:00:00Z\n",
        "２０２０-11-04T08:00:00Z",
        str(NOW_MS),
    ],
)
def test_what_is_no_time(text: str) -> None:
    assert problems(occurred_at=text) == [("/occurred_at", "bad_time")]


@pytest.mark.parametrize("number", [True, [], {}])
def test_what_is_not_even_text_or_number(number: object) -> None:
    assert problems(occurred_at=number) == [("/occurred_at", "wrong_type")]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 0.5])
def test_numbers_that_are_no_milliseconds(number: float) -> None:
    assert problems(occurred_at=number) == [("/occurred_at", "bad_time")]


def test_a_component_of_16_digits_names_its_category() -> None:
    take(location=place(component_id="3101090211000042"))
    take(location=place(component_id="3101090404000042"), category="02111")
    take(location=place(component_id="310109040400004"))
    take(location=place(component_id="310109040400004X"))
    found = problems(location=place(component_id="3101090404000042"))
    assert found == [("/location/component_id", "component_contradicts_category")]


def test_coordinates_come_together() -> None:
    assert problems(location=place(x=1)) == [
        ("/location/crs", "crs_required"),
        ("/location/y", "coordinates_required"),
    ]
    assert problems(location=place(crs="WGS84", y=1)) == [("/location/x", "coordinates_required")]
    assert problems(location=place(crs="bad", x="1", y=1)) == [
        ("/location/crs", "not_allowed"),
        ("/location/x", "wrong_type"),
    ]


@pytest.mark.parametrize("crs", list(Crs))
def test_only_degrees_are_geographic(crs: Crs) -> None:
    plane = crs in (Crs.SH2000, Crs.SHLOCAL)
    report = take(location=place(x=121.5, y=31, crs=crs.value))
    assert geographic_xy(report) == (None if plane else (121.5, 31))
    swapped = place(x=31, y=121.5, crs=crs.value)
    if plane:
        take(location=swapped)
    else:
        assert problems(location=swapped) == [("/location", "swapped_axes")]


def test_no_coordinates_are_not_geographic() -> None:
    assert geographic_xy(take()) is None
    assert geographic_xy(take(location=place())) is None


def test_numbers_are_finite_and_within_reach() -> None:
    assert problems(location=place(x=float("nan"), y=10**400, crs="SH2000")) == [
        ("/location/x", "not_finite"),
        ("/location/y", "out_of_range"),
    ]
    assert problems(location=place(x=-180.001, y=-90.001, crs="BD09")) == [
        ("/location/x", "out_of_range"),
        ("/location/y", "out_of_range"),
    ]
    take(location=place(x=-10_000_000, y=1e7, crs="SH2000"))
    assert problems(occurred_at=10**400) == [("/occurred_at", "future_time")]


@given(st.characters(codec=None))
def test_controls_but_newline_and_tab_are_refused(character: str) -> None:
    control = ord(character) < 32 or 127 <= ord(character) < 160
    if not 0xD800 <= ord(character) < 0xE000:
        assert bool(re.search(CLEAN, character)) == (not control or character in "\n\t")  # as it is published
    if 0xD800 <= ord(character) < 0xE000:
        assert problems(description=character) == [("/description", "lone_surrogate")]
    elif control and character not in "\n\t":
        assert problems(description=character) == [("/description", "control_character")]
        assert problems(extra={"k": [{character: 1}]}) == [("/extra", "control_character")]
    else:
        assert take(description=character, extra={character: character}).canonical["description"] == character


def test_extra_has_its_limits() -> None:
    take(extra={"a": "x" * (4096 - len('{"a":""}'))})
    assert problems(extra={"a": "x" * (4097 - len('{"a":""}'))}) == [("/extra", "too_large")]
    take(extra={"a": {"b": {"c": [1]}}})
    assert problems(extra={"a": {"b": {"c": [[]]}}}) == [("/extra", "too_deep")]
    assert problems(extra={"a": [2**64, float("inf"), "\0", object()]}) == [
        ("/extra", "control_character"),
        ("/extra", "not_finite"),
        ("/extra", "out_of_range"),
        ("/extra", "wrong_type"),
    ]


def test_extra_is_passed_through_with_its_numbers_normal() -> None:
    passed = take(extra={"a": 3.0, "b": [True, None, 0.5, 1e300]}).canonical["extra"]
    assert json.dumps(passed) == '{"a": 3, "b": [true, null, 0.5, 1e+300]}'


@pytest.mark.parametrize(
    "url",
    [
        "https://",
        "https:///a",
        "http://img.example.cn/a",
        "HTTPS://img.example.cn/a",
        "https://img.example.cn/a b",
        "https://img.example.cn/图.jpg",
        "https://me@img.example.cn/",
        "https://img.example.cn\n",
        "//img.example.cn/a",
    ],
)
def test_what_is_no_attachment(url: str) -> None:
    assert problems(attachments=[{"url": url}]) == [("/attachments/0/url", "bad_url")]


def test_attachments_have_their_limits() -> None:
    longest = "https://a.cn/" + "a" * (2048 - 13)
    take(attachments=[{"url": longest}] * 20)
    assert problems(attachments=[{"url": longest + "a"}]) == [("/attachments/0/url", "too_long")]


def test_every_reason_speaks_both_languages_with_the_same_parameters() -> None:
    for reason in Reason:
        assert any("\u4e00" <= character <= "\u9fff" for character in reason.zh), reason
        assert reason.en.isascii(), reason
        assert _parameters(reason.zh) == _parameters(reason.en), reason
        assert all(message(reason, lang) for lang in LANGS)


def test_statuses_and_what_may_be_retried() -> None:
    assert {reason.status for reason in Reason} == {None, 400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 500, 503}
    retryable = {reason.status for reason in Reason if reason.retryable}
    assert retryable == {400, 429, 500, 503}  # 400: a truncated body only
    assert [reason for reason in Reason if reason.retryable and reason.status == 400] == [Reason.TRUNCATED_BODY]
    assert all(reason.retryable for reason in Reason if reason.status in (429, 500, 503))


def test_messages_name_limits_and_choices() -> None:
    assert message(Reason.TOO_LONG, "zh", limit=200) == "过长，最多 200 个字符"
    assert message(Reason.NOT_ALLOWED, "en", choices=("a", "b")) == "not one of the allowed values: a, b"
    assert message(Reason.TOO_LONG, "en") == "too long, at most … characters"


def _parameters(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def _pointers(pointer: str, value: Any) -> list[str]:
    """Every place inside a value, and one step beyond for what is missing there."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [pointer, *(f"{pointer}/{name}" for name in ("address", "url", "name", "x", "y", "crs"))]
    return found + [inner for key, child in children for inner in _pointers(f"{pointer}/{key}", child)]
