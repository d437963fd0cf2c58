"""The published files agree with the code, judged by somebody else's JSON Schema implementation."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from marshmallow import fields

from schemas import generate
from schemas.event import Names, build
from schemas.fields import Closed
from schemas.reasons import Reason
from schemas.report import Invalid, load
from schemas.wire import Unreadable, canonical, parse

EXAMPLES = Path(generate.__file__).parent / "examples"
VALID = sorted((EXAMPLES / "valid").glob("*.json"))
INVALID = sorted((EXAMPLES / "invalid").glob("*.json"))
UNREADABLE = sorted((EXAMPLES / "invalid").glob("*.txt"))
NOW_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z, later than every valid example


def _ecma_pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    """ECMA-262, which JSON Schema asks for: `$` is the very end, where Python's also precedes a last newline."""
    if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield jsonschema.ValidationError(f"does not match {pattern}")


Validator = jsonschema.validators.extend(Draft202012Validator, {"pattern": _ecma_pattern})
REPORTS = Validator(generate.report_schema())
EVENTS = Validator(generate.event_schema())


def name(path: Path) -> str:
    return path.name


def read(path: Path) -> Any:
    return parse(path.read_bytes())


def taken(report: Any) -> bool:
    try:
        load(report, now_ms=NOW_MS)
    except Invalid:
        return False
    return True


def test_there_are_examples() -> None:
    assert len(VALID) >= 12
    assert len(INVALID) >= 25
    assert len(UNREADABLE) >= 10


def test_generated_files_are_current() -> None:
    assert generate.stale() == [], "run: python -m schemas.generate"


def test_stale_and_missing_files_are_noticed(tmp_path: Path) -> None:
    assert generate.stale(tmp_path) == list(generate.ARTEFACTS)
    for artefact, produce in generate.ARTEFACTS.items():
        (tmp_path / artefact).write_bytes(produce())
    (tmp_path / "event.schema.json").write_bytes(b"{}")
    assert generate.stale(tmp_path) == ["event.schema.json"]


@pytest.mark.parametrize("shape", [generate.report_schema(), generate.event_schema()], ids=["report", "event"])
def test_the_schemas_are_schemas(shape: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(shape)
    described = list(_fields(shape))
    assert len(described) > 20
    assert all(" / " in field["description"] for field in described)


@pytest.mark.parametrize("path", VALID, ids=name)
def test_valid_examples(path: Path) -> None:
    first = load(read(path), now_ms=NOW_MS).canonical
    assert list(REPORTS.iter_errors(read(path))) == []
    sendable = {name: value for name, value in first.items() if name != "reporter_given"}
    assert load(sendable, now_ms=NOW_MS).canonical == sendable  # a canonical report is its own canonical form


@pytest.mark.parametrize("path", VALID, ids=name)
def test_valid_examples_become_valid_events(path: Path) -> None:
    names = Names(zh="甲", en="a")
    report = load(read(path), now_ms=NOW_MS)
    built = build(report, received_at_ms=NOW_MS, flags=["f"], edition="e", major_name=names, category_name=None)
    assert list(EVENTS.iter_errors(parse(built))) == []


@pytest.mark.parametrize("path", INVALID, ids=name)
def test_invalid_examples(path: Path) -> None:
    example = read(path)
    with pytest.raises(Invalid) as refused:
        load(example["report"], now_ms=NOW_MS)
    found = [{"pointer": p.pointer, "code": p.reason.value} for p in refused.value.problems]
    assert found == example["problems"]
    assert REPORTS.is_valid(example["report"]) == (not example.get("expressible", True)), example["comment"]


@pytest.mark.parametrize("path", UNREADABLE, ids=name)
def test_unreadable_examples(path: Path) -> None:
    with pytest.raises(Unreadable) as refused:
        parse(path.read_bytes())
    assert refused.value.reason == path.name.split(".")[0]


def test_every_reason_about_a_field_has_an_example() -> None:
    """But those the domain or the sender's key gives, and those that JSON text cannot bring about."""
    elsewhere = {Reason.UNKNOWN_CATEGORY, Reason.CATEGORY_OF_OTHER_KIND, Reason.TOO_MANY_PROBLEMS}
    elsewhere |= {Reason.NOT_FINITE, Reason.LONE_SURROGATE, Reason.OUTSIDE_SCOPE}
    shown = {problem["code"] for path in INVALID for problem in read(path)["problems"]}
    assert {reason.value for reason in Reason if reason.status is None} - shown == elsewhere


def test_the_event_example_is_what_the_full_report_becomes() -> None:
    built = build(
        load(read(EXAMPLES / "valid" / "full.json"), now_ms=NOW_MS),
        received_at_ms=1_604_448_000_250,
        flags=[],
        edition="cjt214-2007",
        major_name=Names(zh="园林绿化", en="parks and greenery"),
        category_name=Names(zh="花架花钵", en="flower stand / planter"),
    )
    assert canonical(read(EXAMPLES / "event.json")) == built
    assert EVENTS.is_valid(parse(built))


def test_fingerprints_stay_as_they_are() -> None:
    """They are compared with those of a week ago: if this changes, a repeat sent across the upgrade is a conflict."""
    report = load(read(EXAMPLES / "valid" / "full.json"), now_ms=NOW_MS)
    assert report.fingerprint().hex() == "067e796e0abe51802cdaa70a6fd8b51a"


def test_an_event_has_people_in_it_only_where_a_policy_says_so() -> None:
    given = read(EXAMPLES / "valid" / "full.json")
    assert "reporter" in given
    assert "reporter" not in load(given, now_ms=NOW_MS).canonical
    assert "reporter" not in generate.event_schema()["required"]


INEXPRESSIBLE = {Reason.SWAPPED_AXES, Reason.COMPONENT_CONTRADICTS_CATEGORY, Reason.CONTROL_CHARACTER}  # in extra
LEAVES = (
    st.sampled_from([None, "", "a", "0211", "reported", "x\n", "x\r\ny", "x\r", "a\u0085", "2020-11-04T08:00:00+0800"])
    | st.booleans()
    | st.floats(-1, 200)
)
VALUES: st.SearchStrategy[Any] = LEAVES | st.just([]) | st.just({}) | st.integers(-200, 200)


@given(st.sampled_from(VALID), st.data())
def test_both_judge_a_mutated_example_alike(path: Path, data: st.DataObject) -> None:
    """One value anywhere replaced or removed: the same verdict, unless JSON Schema cannot express the reason."""
    report = copy.deepcopy(read(path))
    places = list(_places(report))
    inside, key = data.draw(st.sampled_from(places))
    if data.draw(st.booleans()):
        inside[key] = data.draw(VALUES)
    else:
        del inside[key]
    if REPORTS.is_valid(report):
        assert taken(report) or _reasons(report) <= INEXPRESSIBLE
    else:
        assert not taken(report)


def _reasons(report: Any) -> set[Reason]:
    with pytest.raises(Invalid) as refused:
        load(report, now_ms=NOW_MS)
    return {problem.reason for problem in refused.value.problems}


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _fields(shape: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for field in shape.get("properties", {}).values():
        yield field
        ways = [] if "properties" in field else [*field.get("anyOf", []), *field.get("oneOf", [])[:1]]
        for inner in (field, field.get("items", {}), *ways):
            yield from _fields(inner)


def test_a_field_without_a_shape_is_noticed() -> None:
    class Odd(Closed):
        name = fields.Raw()

    with pytest.raises(TypeError, match="no JSON Schema for Raw"):
        generate.json_schema(Odd(), closed=True)


def test_the_examples_are_text_people_can_read() -> None:
    for path in [*VALID, *INVALID, EXAMPLES / "event.json"]:
        text = path.read_text(encoding="utf-8")
        assert text == json.dumps(json.loads(text), ensure_ascii=False, indent=2) + "\n", path.name
