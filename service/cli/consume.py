"""`gridgov consume`: the topics on the terminal, read as the sub-centre would."""

from collections import Counter

import click
import orjson

from schemas.catalogue import Catalogue
from service.broker import consume as reader
from service.broker.consume import ReadingFailed, Record
from service.broker.places import Change, Notice
from service.broker.topics import ClusterUnreachable
from service.cli.command import configured, fail
from service.config import Config

PATIENCE_SECONDS = 60.0  # for a broker that is just starting
SHOWN = 60  # characters of a foreign value on its line

WORDS = {
    Change.OVERTAKEN: "{skipped} messages (offsets {start} to {last}) were deleted before they were read; reading on",
    Change.CUT: "ends before offset {start} where it was read to: its log has lost its tail; reading what is there",
    Change.MADE_ANEW: "was deleted and made anew: reading it from its beginning; what the old one held is gone",
    Change.WIDENED: "has other partitions now: {detail}; where a case moved, journal-seq tells the order",
    Change.UNREADABLE: "{skipped} records (offsets {start} to {last}) cannot be decoded: {detail}",
}


@click.command()
@click.option("--from-beginning", is_flag=True, help="Everything the topics hold, not only what comes from now on.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per message: place, headers and value.")
@click.option("--duplicates", is_flag=True, help="Show duplicates too, marked; they are dropped otherwise.")
@click.option("--idle", type=float, help="End after so many seconds without a message; default: go on until Ctrl-C.")
@configured
def consume(config: Config, from_beginning: bool, as_json: bool, duplicates: bool, idle: float | None) -> None:
    """Read the topics, one line per message, dropping duplicates by journal-seq.

    Records that gridgov has not written are shown and counted as foreign. Where messages were deleted before they were
    read, topics made anew or partitions added, a notice says so (with --json an object with the field `notice`).
    """

    seen: Counter[str] = Counter()
    try:
        for item in reader.consume(
            config,
            Catalogue.load(config.catalogue_dir).topics,
            from_beginning=from_beginning,
            idle=idle,
            patience=PATIENCE_SECONDS,
            waiting=lambda: click.echo(f"waiting for Kafka at {', '.join(config.kafka_servers)} …", err=True),
        ):
            if isinstance(item, Notice):
                seen["skipped"] += item.skipped
                _tell(item, as_json=as_json)
                continue
            seen["foreign"] += item.foreign is not None
            seen["duplicates"] += item.duplicate
            if duplicates or not item.duplicate:
                seen["messages"] += item.foreign is None
                click.echo(_as_json(item) if as_json else _as_line(item))
    except ClusterUnreachable as error:
        fail(f"no answer from {', '.join(config.kafka_servers)}: {error}")
    except ReadingFailed as error:
        fail(f"cannot read on: {error}")
    except KeyboardInterrupt:
        pass
    click.echo(", ".join(f"{seen[what]} {what}" for what in ("messages", "duplicates", "foreign", "skipped")), err=True)


def _tell(notice: Notice, *, as_json: bool) -> None:
    numbers = {"skipped": notice.skipped, "start": notice.start, "last": notice.end - 1, "detail": notice.detail}
    words = WORDS[notice.what].format_map(numbers)
    if as_json:
        place = {"topic": notice.topic, "partition": notice.partition, "from": notice.start, "to": notice.end}
        click.echo(orjson.dumps({"notice": notice.what, **place, "skipped": notice.skipped, "text": words}))
    else:
        where = notice.topic if notice.partition is None else f"{notice.topic}[{notice.partition}]"
        click.secho(_printable(f"{where} {words}"), fg="yellow", err=True)


def _as_line(record: Record) -> str:
    where = f"{record.topic}[{record.partition}]@{record.offset}"
    if record.foreign is not None:
        value = record.value if isinstance(record.value, str) else orjson.dumps(record.value).decode()
        return _printable(f"{where}  {record.key}  foreign: {record.foreign}  {value[:SHOWN]}")
    value = record.value
    name = (value["category_name"] or value["major_name"])["zh"]
    mark = " duplicate" if record.duplicate else ""
    return _printable(
        f"{value['occurred_at']}  {where}  {record.key}"
        f"  {value['stage']:10} {value['category']} {name}  {value['report_id']}{mark}"
    )


def _as_json(record: Record) -> bytes:
    place = {"topic": record.topic, "partition": record.partition, "offset": record.offset, "key": record.key}
    marks = {"duplicate": record.duplicate, "foreign": record.foreign}
    shown = {**place, "headers": record.headers, "value": record.value}
    return orjson.dumps(shown | {mark: told for mark, told in marks.items() if told})


def _printable(line: str) -> str:
    """What others wrote must not steer this terminal."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in line)
