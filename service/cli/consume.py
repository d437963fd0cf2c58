"""`gridgov consume`: the topics on the terminal, read as the sub-centre would."""

import click
import orjson

from schemas.catalogue import Catalogue
from service.broker import consume as reader
from service.broker.consume import Record
from service.broker.topics import ClusterUnreachable
from service.cli.command import configured, fail
from service.config import Config

PATIENCE_SECONDS = 60.0  # for a broker that is just starting


@click.command()
@click.option("--from-beginning", is_flag=True, help="Everything the topics hold, not only what comes from now on.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per message: place, headers and value.")
@click.option("--duplicates", is_flag=True, help="Show duplicates too, marked; they are dropped otherwise.")
@click.option("--idle", type=float, help="End after so many seconds without a message; default: go on until Ctrl-C.")
@configured
def consume(config: Config, from_beginning: bool, as_json: bool, duplicates: bool, idle: float | None) -> None:
    """Read the topics, one line per message, dropping duplicates by journal-seq."""

    count = dropped = 0
    try:
        for record in reader.consume(
            config,
            Catalogue.load(config.catalogue_dir).topics,
            from_beginning=from_beginning,
            idle=idle,
            patience=PATIENCE_SECONDS,
            waiting=lambda: click.echo(f"waiting for Kafka at {', '.join(config.kafka_servers)} …", err=True),
        ):
            dropped += record.duplicate
            if record.duplicate and not duplicates:
                continue
            count += 1
            click.echo(_as_json(record) if as_json else _as_line(record))
    except ClusterUnreachable as error:
        fail(f"no answer from {', '.join(config.kafka_servers)}: {error}")
    except KeyboardInterrupt:
        pass
    click.echo(f"{count} messages, {dropped} duplicates", err=True)


def _as_line(record: Record) -> str:
    value = orjson.loads(record.value)
    name = (value["category_name"] or value["major_name"])["zh"]
    mark = " duplicate" if record.duplicate else ""
    return (
        f"{value['occurred_at']}  {record.topic}[{record.partition}]@{record.offset}  {record.key}"
        f"  {value['stage']:10} {value['category']} {name}  {value['report_id']}{mark}"
    )


def _as_json(record: Record) -> bytes:
    place = {"topic": record.topic, "partition": record.partition, "offset": record.offset, "key": record.key}
    shown = {**place, "headers": record.headers, "value": orjson.loads(record.value)}
    return orjson.dumps(shown | ({"duplicate": True} if record.duplicate else {}))
