"""What is kept and published of a report that a known sender got refused: why, where, and what it said, masked.

Nothing is kept but what the contract has a place for. What has the right form stays as it is, for it would have been
stored as it is; free text is masked. What has a wrong form may be anything: if it is short and plain it is masked, else
left out, as are unknown fields and who reported it. `faithful` tells whether that is still the report that was sent,
but for its masks.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from marshmallow import Schema, ValidationError, fields

from schemas import wire
from schemas.event import HEADERS
from schemas.fields import Closed, Code, FreeObject, Instant, Items, Json, Part, Text
from schemas.personal import masked_value
from schemas.report import GIVEN, IDENTIFIER, SCHEMA, Problem, says
from schemas.times import format_time

TOPIC = "gridgov.rejected"
MOST_BYTES = 16_384  # of a report that is kept; a larger one is told without
CE_TYPE = "gridgov.rejected"
_FREE = {"description", "source_name", "address", "name", "level", "unit_name", "extra"}
_UNNAMED = {"name": "*"}  # stands for who reported it: that somebody was named is part of the report


class ProblemSchema(Closed):
    """What was wrong, and where."""

    pointer = Text(
        500, required=True, metadata=says("RFC 6901 指针，空为整份上报", "RFC 6901 pointer; '' is all of it")
    )
    code = Code("[a-z][a-z0-9_]{0,63}", required=True, metadata=says("原因代码", "the reason's code"))


class RejectedSchema(Closed):
    """One report that was refused to a known sender. New fields may come: ignore those you do not know."""

    rejected_at = Instant(required=True, metadata=says("首次拒收的时间", "when it was refused first"))
    sender = Text(64, required=True, metadata=says("发送方", "who sent it"))
    reason = Code("[a-z][a-z0-9_]{0,63}", required=True, metadata=says("拒收代码", "the code of the answer"))
    problems = Items(Part(ProblemSchema), most=101, required=True, metadata=says("各项问题", "every problem found"))
    report_id = Code(IDENTIFIER, metadata=says("上报编号，格式正确时才有", "if it has the form of one"))
    case_id = Code(IDENTIFIER, metadata=says("任务号，格式正确时才有", "if it has the form of one"))
    catalogue_edition = Text(64, required=True, metadata=says("当时的目录版本", "edition of the catalogue then"))
    report = FreeObject(
        most=MOST_BYTES,
        levels=8,
        required=True,
        allow_none=True,
        metadata=says(
            "所发内容，已脱敏；过大、或有未知字段时不完整或为 null",
            "what was sent, masked; not all of it when it had unknown fields, null when it was too large",
        ),
    )


class Kept(NamedTuple):
    """What is kept of a refused report."""

    report: Json | None
    faithful: bool
    report_id: str | None
    case_id: str | None


def kept(given: Json) -> Kept:
    """The parsed report as it may be kept."""
    given = GIVEN(given)
    report, faithful = _object(SCHEMA, given)
    if report.pop("reporter", None):
        report["reporter"] = _UNNAMED
    if len(orjson.dumps(report)) > MOST_BYTES:
        return Kept(None, False, _id(given, "report_id"), _id(given, "case_id"))
    return Kept(report, faithful, _id(given, "report_id"), _id(given, "case_id"))


def build(kept: Kept, *, at_ms: int, sender: str, reason: str, problems: Sequence[Problem], edition: str) -> bytes:
    """The value of the record."""
    ids = {"report_id": kept.report_id, "case_id": kept.case_id}
    told = {
        "rejected_at": format_time(at_ms),
        "sender": sender,
        "reason": reason,
        "problems": [{"pointer": one.pointer, "code": one.reason} for one in problems],
        **{name: value for name, value in ids.items() if value is not None},
        "catalogue_edition": edition,
        "report": kept.report,
    }
    return wire.encode(told)


def headers(*, id_: str, sender: str, at_ms: int) -> bytes:
    """The record's headers, packed as `schemas.event` packs them."""
    values = ("1.0", id_, sender, CE_TYPE, format_time(at_ms), "application/json")
    return "\n".join(values[: len(HEADERS)]).encode()


def _object(schema: Schema, given: Json) -> tuple[Json, bool]:
    made: Json = {}
    faithful = True
    for name, value in given.items():
        field = schema.load_fields.get(name)
        if field is None:
            faithful = False
            continue
        made[name], same = _value(name, field, value)
        faithful = faithful and same
        if made[name] is None and value is not None:
            del made[name]
    return made, faithful


def _value(name: str, field: fields.Field[Any], value: Any) -> tuple[Any, bool]:
    if name == "reporter":
        return _named(field, value)
    if isinstance(field, Part) and isinstance(value, dict):
        return _object(field.schema, value)
    if isinstance(field, Items) and isinstance(value, list):
        items = [_value("", field.inner, one) for one in value]
        return [one for one, _ in items], all(same for _, same in items)
    if name in _FREE:
        return masked_value(value), True
    if _right(field, value):
        return value, True
    hidden = masked_value(value) if _harmless(value) else None
    return hidden, hidden == value


def _harmless(value: Any) -> bool:
    """Whether what has a wrong form is at least short, and no text in which a person is likely to be named."""
    return isinstance(value, int | float) or (isinstance(value, str) and value.isascii() and len(value) <= 40)


def _named(field: fields.Field[Any], value: Any) -> tuple[Any, bool]:
    right = _right(field, value)
    return (value if right else None), right


def _right(field: fields.Field[Any], value: Any) -> bool:
    try:
        field.deserialize(value)
    except ValidationError:
        return False
    return True


def _id(given: Json, name: str) -> str | None:
    return given[name] if name in given and _right(SCHEMA.load_fields[name], given[name]) else None
