"""What a report says of its case, packed: the journal keeps it beside the message, so that the fold need not parse it.

Packed it is a JSON array, in the order of `Said`, without the last where it says nothing. A message that has none (of
an older journal) is read from its value: it was accepted when everybody might speak of every case.
"""

from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import orjson
from msgspec import UNSET

from schemas.report import Report
from schemas.times import parse_time
from schemas.words import Kind, Stage, Supervision
from service.domain.case import Campaign


class Said(NamedTuple):
    """The part of a `Fact` that the report itself and its sender's key tell, in the order of its fields."""

    occurred_at: int
    kind: str
    category: str
    stage: Stage
    supervision: Supervision
    campaign: Campaign | None
    own_only: bool = False


def pack(report: Report, *, own_only: bool = False) -> bytes:
    """As the journal keeps it. `own_only`: its sender speaks of its own cases only."""
    given = report.content  # its words are plain strings, which are written sooner than an enum's
    campaign = given.campaign and [None if told is UNSET else told for told in _campaign(given.campaign)]
    said = (report.occurred_at_ms, given.kind, given.category, given.stage, given.supervision, campaign or None)
    return _dump((*said, True) if own_only else said)


_campaign = attrgetter("name", "phase", "level")
_dump = msgspec.json.Encoder().encode  # what orjson writes lies in a kilobyte of its own, which costs 0.8 µs to keep
unpack = msgspec.json.Decoder(Said).decode
"""What `pack` packed. Raises ValueError for anything else."""


def read(value: bytes) -> Said:
    """The same from the value of a message. Raises KeyError, TypeError or ValueError."""
    event: dict[str, Any] = {**orjson.loads(value)}  # whatever else JSON can be is no mapping
    campaign = event.get("campaign")
    return Said(
        occurred_at=parse_time(event["occurred_at"]),
        kind=Kind(event["kind"]).value,
        category=_text(event["category"]),
        stage=Stage(event["stage"]),
        supervision=Supervision(event["supervision"]),
        campaign=Campaign(_text(campaign["name"]), *map(_stated, (campaign.get("phase"), campaign.get("level"))))
        if campaign
        else None,
    )


def _text(value: object) -> str:
    """What is no text must not get as far as the database: there the whole transaction would fail, again and again."""
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _stated(value: object) -> str | None:
    return None if value is None else _text(value)
