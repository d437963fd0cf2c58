"""One record of a topic: a report that gridgov has published, or what somebody else wrote there."""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

JOURNAL_ID, JOURNAL_SEQ, SENDER, REPORT_ID = "journal-id", "journal-seq", "ce_source", "ce_id"
SEQ = re.compile(rb"[1-9][0-9]{0,18}")
TEXTS = ("report_id", "case_id", "kind", "category", "stage", "occurred_at", "received_at")  # in every edition


class Report(NamedTuple):
    """One report, and where it was read. New fields may come in `value`: ignore those you do not know."""

    topic: str
    partition: int
    offset: int
    journal_id: str
    seq: int  # its place in that journal
    sender: str  # together with `report_id` it is unique
    report_id: str
    case_id: str
    kind: str
    category: str
    stage: str
    value: dict[str, Any]  # the whole message, by `event.schema.json`

    @property
    def street(self) -> str | None:
        """The code of its street, 9 or 12 digits, if the report names one."""
        location = self.value.get("location")
        street = location.get("street_code") if isinstance(location, dict) else None
        return street if isinstance(street, str) else None


class Foreign(Exception):
    """This record is no report of gridgov's; the text tells why."""


class Watermark:
    """The consumer's whole memory for dropping duplicates: one number per (journal-id, topic, partition)."""

    def __init__(self) -> None:
        self._highest: dict[tuple[str, str, int], int] = {}

    def passes(self, journal_id: str, topic: str, partition: int, seq: int) -> bool:
        """Whether this is news, and remember it."""
        place = (journal_id, topic, partition)
        if seq <= self._highest.get(place, 0):
            return False
        self._highest[place] = seq
        return True

    def forget(self, topic: str) -> None:
        """Know nothing of a topic: it was made anew."""
        self._highest = {place: seq for place, seq in self._highest.items() if place[1] != topic}


def read(record: Any) -> Report:
    """What a record of kafka-python's says. Raises `Foreign`."""
    headers, value = dict(record.headers), parsed(record.value)
    for why in oddities(record.key, record.value, headers, value):
        raise Foreign(why)
    for name in (SENDER, REPORT_ID):
        if not headers.get(name):
            raise Foreign(f"no {name}")
    return Report(
        record.topic,
        record.partition,
        record.offset,
        headers[JOURNAL_ID].decode(),
        int(headers[JOURNAL_SEQ]),
        headers[SENDER].decode(),
        value["report_id"],
        value["case_id"],
        value["kind"],
        value["category"],
        value["stage"],
        value,
    )


def oddities(key: bytes | None, raw: bytes | None, headers: dict[str, Any], value: Any) -> Iterator[str]:
    """Why gridgov has not written it; each reason may rest on there being none before it. `value`: its JSON."""
    yield from (f"header {name!r} is not text" for name, said in headers.items() if not _is_text(said))
    if not headers.get(JOURNAL_ID) or JOURNAL_SEQ not in headers:
        yield "no journal-id and journal-seq"
    if not SEQ.fullmatch(headers[JOURNAL_SEQ]):
        yield "journal-seq is no number"
    if raw is None:
        yield "no value: a tombstone"
    if not _is_report(value):
        yield "its value is no report"
    if key != value["case_id"].encode():
        yield "its key is not its case"


def parsed(raw: bytes | None) -> Any:
    """What its JSON says; None when it is none."""
    try:
        return None if raw is None else json.loads(raw, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _is_report(value: Any) -> bool:
    """Whether it has what every edition of the contract has, as far as it is relied on."""
    if not isinstance(value, dict) or not all(isinstance(value.get(name), str) for name in TEXTS):
        return False
    names = (value.get("major_name"), value.get("category_name") or {"zh": ""})
    return all(isinstance(name, dict) and isinstance(name.get("zh"), str) for name in names)


def _is_text(raw: Any) -> bool:
    try:
        return raw is not None and raw.decode() is not None
    except UnicodeDecodeError:
        return False
