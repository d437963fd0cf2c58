"""What Kafka carries: the canonical report with what we know about it, under CloudEvents 1.0 binary headers.

The value never changes once built: it is stored, and what is published again is the same bytes. So the sender is in
`ce_source` only, and what belongs to one attempt at publishing is in the relay's headers only.
"""

from collections.abc import Collection
from copy import copy

import msgspec
import orjson
from marshmallow import INCLUDE

from schemas import personal, wire
from schemas.fields import Closed, Code, Instant, Items, OneOf, Part, Text, Truth
from schemas.plain import spell
from schemas.report import ADDED, Report, ReporterSchema, ReportSchema, digest, says
from schemas.times import format_time
from schemas.words import Supervision

ERASED = "erased"  # in `flags`: what may be about a person was taken out later
BUILT = {*ADDED} - {"reporter_given"}  # whatever the report itself says
_MAY_TELL = {"description", "source_name", "handler", "attachments", "extra", "reporter", "reporter_given", "location"}
JOURNAL_ID = "journal-id"
JOURNAL_SEQ = "journal-seq"
ATTEMPT = "attempt"

HEADERS = {  # name → (zh, en); values are UTF-8, numbers in ASCII digits; `traceparent` alone may be absent
    "ce_specversion": ("CloudEvents 版本，1.0", "CloudEvents version, 1.0"),
    "ce_id": ("上报编号 report_id；与 ce_source 一起唯一", "the report_id; unique together with ce_source"),
    "ce_source": ("发送方", "the sender"),
    "ce_type": ("gridgov.<kind>.<stage>", "gridgov.<kind>.<stage>"),
    "ce_time": ("即 occurred_at", "same as occurred_at"),
    "content-type": ("application/json", "application/json"),
    "traceparent": ("W3C 链路追踪，有则带", "W3C trace context, when the report came with one"),
    JOURNAL_ID: ("日志库编号；恢复或重建后更换", "the journal; a restored or new one has a new id"),
    JOURNAL_SEQ: (
        "日志序号；同一 (journal-id, 主题, 分区) 中不大于已见最大值的即为重复",
        "place in the journal; a duplicate if not above the highest seen of its (journal-id, topic, partition)",
    ),
    ATTEMPT: ("第几次发布，从 1 起", "which attempt at publishing it this is, from 1"),
}


class Names(msgspec.Struct, frozen=True):
    """A name in both languages."""

    en: str
    zh: str


class NamesSchema(Closed):
    """A name in both languages."""

    zh = Text(100, required=True, metadata=says("中文", "Chinese"))
    en = Text(100, required=True, metadata=says("英文", "English"))


class EventSchema(ReportSchema):
    """One message on a topic. New fields may come: a consumer ignores those it does not know."""

    class Meta:
        unknown = INCLUDE

    occurred_at = Instant(  # type: ignore[assignment]  # read in three spellings, written in one
        required=True, metadata=says("该环节发生的时间", "when that stage happened")
    )
    supervision = OneOf(
        Supervision,
        required=True,
        metadata=says("督办等级；urgent 为紧逼督办", "how closely the case is supervised"),
    )
    received_at = Instant(required=True, metadata=says("本系统收到的时间", "when we received it"))
    reporter = Part(
        ReporterSchema,
        metadata=says(
            "上报人：默认没有；只有对该发送方另有规定时才保留或脱敏后保留",
            "who reported it: as a rule left out; kept, or masked, only where a policy for the sender says so",
        ),
    )
    reporter_given = Truth(metadata=says("原报文含上报人", "the report named its reporter"))
    flags = Items(
        Code("[a-z][a-z_]{0,63}"),
        most=32,
        required=True,
        metadata=says("报文本身的异常，已排序", "what is odd about the report itself, sorted"),
    )
    catalogue_edition = Text(64, least=1, required=True, metadata=says("目录版本", "edition of the catalogue"))
    category_name = Part(
        NamesSchema,
        required=True,
        allow_none=True,
        metadata=says("小类名称；目录中没有时为 null", "the minor class; null if the catalogue has none"),
    )
    major_name = Part(NamesSchema, required=True, metadata=says("大类名称", "the major class"))


def build(
    report: Report,
    *,
    received_at_ms: int,
    flags: Collection[str],
    edition: str,
    major_name: Names,
    category_name: Names | None,
) -> bytes:
    """The value of the message: canonical JSON, under 64 KiB even for the largest report the schema lets through."""
    made = copy(report.content)
    made.received_at = format_time(received_at_ms)
    made.flags = sorted(set(flags)) if flags else []
    made.catalogue_edition = edition
    made.category_name, made.major_name = category_name, major_name
    return spell(made)


def fingerprint(value: bytes) -> bytes:
    """The fingerprint of the report that a value was built from. ValueError: it is no such value."""
    known = orjson.loads(value)
    if not isinstance(known, dict) or not known.keys() >= BUILT:
        raise ValueError("not the value of a message")
    return digest(personal.masked({name: part for name, part in known.items() if name not in BUILT | {"reporter"}}))


def erased(value: bytes) -> bytes:
    """The value of a message without all that may be about a person: ids, kind, stage, times and codes are left.

    An address that was there is `*`. ValueError: it is no such value.
    """
    known = orjson.loads(value)
    if not isinstance(known, dict) or not known.keys() >= BUILT:
        raise ValueError("not the value of a message")
    left = {name: part for name, part in known.items() if name not in _MAY_TELL}
    if "location" in known:
        left["location"] = {"address": "*"} | {
            name: code for name, code in known["location"].items() if name in ("street_code", "grid_code")
        }
    left["flags"] = sorted({*known["flags"], ERASED})
    return wire.encode(left)


def headers(report: Report, *, sender: str, traceparent: str | None = None) -> bytes:
    """The headers known when the report is accepted, packed; the relay adds journal-id, journal-seq and attempt.

    Packed they are their values, a line each, in the order of `HEADERS`; none of them can hold a newline.
    """
    said = report.content  # its words are plain strings, which are written much sooner than an enum's
    known = f"1.0\n{said.report_id}\n{sender}\ngridgov.{said.kind}.{said.stage}\n{said.occurred_at}\napplication/json"
    return f"{known}\n{traceparent}".encode() if traceparent else known.encode()


def unpacked(packed: bytes) -> list[tuple[str, bytes]]:
    """The headers that `headers` has packed, by name."""
    return list(zip(HEADERS, packed.split(b"\n"), strict=False))
