"""How `gridgov consume` shows a record: on a line, in a table, as JSON, as CSV."""

import csv
import io
import unicodedata
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, ClassVar, Protocol
from zoneinfo import ZoneInfo

import orjson

from schemas.catalogue import Catalogue
from service.broker.consume import Record

SHOWN = 60  # characters of a foreign value on its line
# What a spreadsheet would take for a formula, and run, when it opens the file.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
COLUMNS: dict[str, Callable[[Record, dict[str, Any]], object]] = {
    **{
        name: lambda _, value, name=name: value.get(name)  # type: ignore[misc]
        for name in ("occurred_at", "received_at", "report_id", "case_id", "kind", "category")
    },
    "category_zh": lambda _, value: (value["category_name"] or value["major_name"])["zh"],
    "stage": lambda _, value: value["stage"],
    "supervision": lambda _, value: value.get("supervision"),
    "address": lambda _, value: _place(value).get("address"),
    "street_code": lambda _, value: _place(value).get("street_code"),
    "flags": lambda _, value: " ".join(value.get("flags") or ()),
    "sender": lambda record, _: record.headers.get("ce_source"),
    "topic": lambda record, _: record.topic,
    "partition": lambda record, _: record.partition,
    "offset": lambda record, _: record.offset,
    "journal_id": lambda record, _: record.headers["journal-id"],
    "journal_seq": lambda record, _: record.headers["journal-seq"],
    "duplicate": lambda record, _: "yes" if record.duplicate else "",
}


class Form(Protocol):
    """One way to show records; what it gives ends without a newline."""

    def head(self) -> Iterator[str]:
        """What comes before the first one."""

    def shown(self, record: Record) -> str | None:
        """The record; None where this form has no place for it."""


class Lines:
    """The moment, the place in Kafka, the case and what has happened, a line each."""

    def head(self) -> Iterator[str]:
        yield from ()

    def shown(self, record: Record) -> str:
        return as_line(record)


class Json:
    """The place, the headers and the value as they are: JSON lines."""

    def head(self) -> Iterator[str]:
        yield from ()

    def shown(self, record: Record) -> str:
        return as_json(record).decode()


class Csv:
    """Flat columns for spreadsheets and scripts. What others wrote is none of them."""

    def head(self) -> Iterator[str]:
        yield _row(list(COLUMNS))

    def shown(self, record: Record) -> str | None:
        if record.foreign is not None:
            return None
        return _row([_cell(told(record, record.value)) for told in COLUMNS.values()])


class Table:
    """Aligned columns for people, in the words of the catalogue and the district's own time. Ids are never cut."""

    WIDTHS: ClassVar = {"time": 19, "case": 16, "what": 22, "stage": 8, "supervision": 11, "sender": 12, "where": 36}

    def __init__(self, catalogue: Catalogue) -> None:
        self._stages, self._zone = catalogue.stages, catalogue.timezone

    def head(self) -> Iterator[str]:
        yield _aligned(self.WIDTHS, self.WIDTHS)
        yield _aligned({name: "─" * width for name, width in self.WIDTHS.items()}, self.WIDTHS)

    def shown(self, record: Record) -> str:
        if record.foreign is not None:
            return as_line(record)
        value = record.value
        stage, name = self._stages.get(value["stage"]), value["category_name"] or value["major_name"]
        cells = {
            "time": _local(value["occurred_at"], self._zone),
            "case": value["case_id"],
            "what": f"{value['category']} {name['zh']}",
            "stage": stage.zh if stage else value["stage"],
            "supervision": "" if value.get("supervision") == "none" else value.get("supervision"),
            "sender": record.headers.get("ce_source"),
            "where": _place(value).get("address"),
        }
        mark = " duplicate" if record.duplicate else ""
        return printable(_aligned(cells, self.WIDTHS) + mark)


def as_line(record: Record) -> str:
    """One line of a terminal."""
    where = f"{record.topic}[{record.partition}]@{record.offset}"
    if record.foreign is not None:
        value = record.value if isinstance(record.value, str) else orjson.dumps(record.value).decode()
        return printable(f"{where}  {record.key}  foreign: {record.foreign}  {value[:SHOWN]}")
    value = record.value
    name = (value["category_name"] or value["major_name"])["zh"]
    mark = " duplicate" if record.duplicate else ""
    return printable(
        f"{value['occurred_at']}  {where}  {record.key}"
        f"  {value['stage']:10} {value['category']} {name}  {value['report_id']}{mark}"
    )


def as_json(record: Record) -> bytes:
    """One JSON object."""
    place = {"topic": record.topic, "partition": record.partition, "offset": record.offset, "key": record.key}
    marks = {"duplicate": record.duplicate, "foreign": record.foreign}
    shown = {**place, "headers": record.headers, "value": record.value}
    return orjson.dumps(shown | {mark: told for mark, told in marks.items() if told})


def printable(line: str) -> str:
    """What others wrote must not steer this terminal."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in line)


def _place(value: dict[str, Any]) -> dict[str, Any]:
    location = value.get("location")
    return location if isinstance(location, dict) else {}


def _cell(told: object) -> str:
    text = "" if told is None else str(told)
    return f"'{text}" if text.startswith(FORMULA) else text


def _row(cells: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def _local(text: str, zone: ZoneInfo) -> str:
    try:
        return datetime.fromisoformat(text).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return text


def _aligned(cells: Any, widths: dict[str, int]) -> str:
    told = ((name, str(name if cells is widths else cells.get(name) or ""), width) for name, width in widths.items())
    return "  ".join(
        text.ljust(width) if name == "case" else _padded(text, width) for name, text, width in told
    ).rstrip()


def _padded(text: str, width: int) -> str:
    """Cut or filled to so many columns of a terminal."""
    if (whole := _columns(text)) <= width:
        return text + " " * (width - whole)
    kept = ""
    for char in text:
        if _columns(kept + char) >= width:
            break
        kept += char
    return f"{kept}…{' ' * (width - 1 - _columns(kept))}"


def _columns(text: str) -> int:
    """A Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
