"""`gridgov consume`: the topics on the terminal, read as the sub-centre would."""

import re
import time
from collections import Counter
from datetime import timedelta
from typing import NamedTuple

import click
import orjson

from schemas.catalogue import Catalogue
from schemas.times import parse_time
from schemas.words import Kind
from service.broker import consume as reader
from service.broker.consume import ReadingFailed, Record
from service.broker.places import Change, Notice
from service.broker.topics import ClusterUnreachable
from service.cli.command import configured, fail
from service.cli.records import Csv, Form, Json, Lines, Table, printable
from service.config import Config

PATIENCE_SECONDS = 60.0  # for a broker that is just starting
LAG_SECONDS = 10.0  # between two lines that tell how far behind we are
AGO = re.compile("([0-9]{1,6})([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")

WORDS = {
    Change.OVERTAKEN: "{skipped} messages (offsets {start} to {last}) were deleted before they were read; reading on",
    Change.CUT: "ends before offset {start} where it was read to: its log has lost its tail; reading what is there",
    Change.MADE_ANEW: "was deleted and made anew: reading it from its beginning; what the old one held is gone",
    Change.WIDENED: "has other partitions now: {detail}; where a case moved, journal-seq tells the order",
    Change.UNREADABLE: "{skipped} records (offsets {start} to {last}) cannot be decoded: {detail}",
}


def _moment(_: click.Context, __: click.Parameter, told: str | None) -> int | None:
    """Unix ms."""
    if told is None:
        return None
    if ago := AGO.fullmatch(told):
        return int((time.time() - timedelta(**{UNITS[ago[2]]: int(ago[1])}).total_seconds()) * 1000)
    try:
        return parse_time(f"{told} 00:00:00" if DAY.fullmatch(told) else told)
    except ValueError:
        raise click.BadParameter("not a time; say 90s, 15m, 2h, 3d, 2026-11-04 or '2026-11-04 08:00:00'") from None


@click.command()
@click.option("--from-beginning", is_flag=True, help="Everything the topics hold, not only what comes from now on.")
@click.option("--since", callback=_moment, metavar="TIME", help="What was published since: 15m, 2h, 3d, 2026-11-04 …")
@click.option("--follow/--no-follow", "-f", default=None, help="Go on with what comes; default, but after --since.")
@click.option("--case", "cases", multiple=True, metavar="ID", help="Only this case; repeatable.")
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice([kind.value for kind in Kind]), help="Only this kind."
)
@click.option("--category", "categories", multiple=True, help="Only codes that begin so: 02, 0211; repeatable.")
@click.option(
    "--output",
    "-o",
    type=click.Choice(["line", "table", "json", "csv"]),
    default="line",
    show_default=True,
    help="json: place, headers and value, an object a line; csv: flat columns.",
)
@click.option("--json", "output", flag_value="json", help="The same as --output json.")
@click.option("--duplicates", is_flag=True, help="Show duplicates too, marked; they are dropped otherwise.")
@click.option("--idle", type=float, help="End after so many seconds without a message.")
@configured
def consume(
    config: Config,
    *,
    from_beginning: bool,
    since: int | None,
    follow: bool | None,
    output: str,
    duplicates: bool,
    idle: float | None,
    **chosen: tuple[str, ...],
) -> None:
    """Read the topics, dropping duplicates by journal-seq. It remembers nothing: for that there is `gridgov sink`.

    \b
    gridgov consume                                        what comes from now on, until Ctrl-C
    gridgov consume --since 2h -o table                    the last two hours, and end
    gridgov consume --from-beginning --no-follow --case 202011040002
    gridgov consume --since 1d -o csv --category 02 > road-traffic.csv
    gridgov consume --since 10m -f -o json | jq .value.stage

    How far behind it is, it says on standard error: at the end, and while it catches up. Records that gridgov has not
    written are shown and counted as foreign (but with a filter, and in CSV). Where messages were deleted before they
    were read, topics made anew or partitions added, a notice says so (in JSON an object with the field `notice`).
    """

    catalogue = Catalogue.load(config.catalogue_dir)
    forms: dict[str, Form] = {"line": Lines(), "table": Table(catalogue), "json": Json(), "csv": Csv()}
    show = _Show(forms[output], _Filter(**chosen), duplicates=duplicates, as_json=output == "json")
    try:
        for item in reader.consume(
            config,
            catalogue.topics,
            from_beginning=from_beginning,
            since_ms=since,
            follow=since is None if follow is None else follow,
            idle=idle,
            patience=PATIENCE_SECONDS,
            waiting=lambda: click.echo(f"waiting for Kafka at {', '.join(config.kafka_servers)} …", err=True),
            behind=show.behind,
        ):
            show.item(item)
    except ClusterUnreachable as error:
        fail(f"no answer from {', '.join(config.kafka_servers)}: {error}")
    except ReadingFailed as error:
        fail(f"cannot read on: {error}")
    except KeyboardInterrupt:
        pass
    show.end()


class _Filter(NamedTuple):
    """Which reports are wanted; empty: no matter."""

    cases: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()

    def wants(self, record: Record) -> bool:
        """Whether it is one; what others wrote is only shown where nothing is asked for."""
        if record.foreign is not None:
            return not any(self)
        value = record.value
        return (
            (not self.cases or value["case_id"] in self.cases)
            and (not self.kinds or value["kind"] in self.kinds)
            and (not self.categories or value["category"].startswith(self.categories))
        )


class _Show:
    """Everything that is printed, and the counts of it."""

    def __init__(self, form: Form, wanted: _Filter, *, duplicates: bool, as_json: bool) -> None:
        self._form, self._filter, self._duplicates, self._as_json = form, wanted, duplicates, as_json
        self._seen: Counter[str] = Counter()
        self._left: int | None = None  # records behind, as far as that was told
        self._tell_at = time.monotonic() + LAG_SECONDS
        self._begun = False

    def item(self, item: Record | Notice) -> None:
        """Show it, if it is wanted, and count it."""
        self._begin()
        if isinstance(item, Notice):
            self._seen["skipped"] += item.skipped
            _tell(item, as_json=self._as_json)
            return
        self._seen["foreign"] += item.foreign is not None
        self._seen["duplicates"] += item.duplicate
        if (self._duplicates or not item.duplicate) and self._filter.wants(item):
            self._seen["messages"] += item.foreign is None
            if (line := self._form.shown(item)) is not None:
                click.echo(line)

    def behind(self, records: int) -> None:
        """So many are left to read; told now and then as long as there are some."""
        self._begin()
        self._left = records
        if records and time.monotonic() >= self._tell_at:
            self._tell_at = time.monotonic() + LAG_SECONDS
            click.echo(f"{records} behind …", err=True)

    def end(self) -> None:
        """Tell what there was of each sort."""
        self._begin()
        counts = [f"{self._seen[what]} {what}" for what in ("messages", "duplicates", "foreign", "skipped")]
        click.echo(", ".join(counts if self._left is None else [*counts, f"{self._left} behind"]), err=True)

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            for line in self._form.head():
                click.echo(line)


def _tell(notice: Notice, *, as_json: bool) -> None:
    numbers = {"skipped": notice.skipped, "start": notice.start, "last": notice.end - 1, "detail": notice.detail}
    words = WORDS[notice.what].format_map(numbers)
    if as_json:
        place = {"topic": notice.topic, "partition": notice.partition, "from": notice.start, "to": notice.end}
        click.echo(orjson.dumps({"notice": notice.what, **place, "skipped": notice.skipped, "text": words}))
    else:
        where = notice.topic if notice.partition is None else f"{notice.topic}[{notice.partition}]"
        click.secho(printable(f"{where} {words}"), fg="yellow", err=True)
