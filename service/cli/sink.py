"""`gridgov sink`: the sub-centre's tables `reports` and `cases`, kept by the topics, exactly once."""

import os
import signal
import threading
import time

import click

from schemas.catalogue import Catalogue
from schemas.words import Kind
from service import ops, watchdog
from service.broker.connection import connection
from service.cases.rules import fingerprint, rules_of
from service.cli.command import configured, fail
from service.config import Config
from service.consumer import HOPELESS, Database, Reader, Selection, UnknownDatabase, masked
from service.metrics import registry
from service.ops import HANG_SECONDS, Health, Readiness
from service.sink import tables
from service.sink.metrics import SinkCollector
from service.sink.rows import names
from service.sink.sink import Sink

SWEEP_SECONDS = 1.0


def _columns(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(tables.page("zh"))
        click.echo(tables.page("en"), nl=False)
        ctx.exit()


@click.command()
@click.argument("database", required=False)
@click.option("--group", default="gridgov-sink", show_default=True, help="Readers of one group share the work.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice([kind.value for kind in Kind]), help="Only these.")
@click.option("--category", "categories", multiple=True, help="Only codes that begin so: 02, 0211; repeatable.")
@click.option("--street", "streets", multiple=True, help="Only cases in streets whose code begins so; repeatable.")
@click.option("--own-only", multiple=True, metavar="SENDER", help="A sender whose key says `cases: own`; repeatable.")
@click.option("--once", is_flag=True, help="End when everything there is has been worked in.")
@click.option("--columns", is_flag=True, is_eager=True, expose_value=False, callback=_columns, help="Tell the columns.")
@configured
def sink(
    config: Config,
    *,
    database: str | None,
    group: str,
    kinds: tuple[str, ...],
    categories: tuple[str, ...],
    streets: tuple[str, ...],
    own_only: tuple[str, ...],
    once: bool,
) -> None:
    """Keep the tables `reports` and `cases` of a DATABASE up to date, exactly once, whatever is killed when.

    \b
    gridgov sink sqlite:///cases.db                    a file here; sqlite:////var/lib/x.db is an absolute path
    gridgov sink postgresql://sink@db.example/city     the password from PGPASSWORD or ~/.pgpass
    GRIDGOV_SINK_DATABASE=postgresql://… gridgov sink  what stands on a command line, everybody here can read

    \b
    A row of `reports` for each report; a row of `cases` for each case, as GET /v1/cases tells it:
      SELECT category_zh, count(*) FROM cases WHERE completion_outcome = 'breached' GROUP BY 1;
      SELECT case_id, address FROM cases WHERE completion_due_at < now();          -- overdue at this moment
    `gridgov sink --columns` tells every column. For the same outcomes it must have the catalogue and the
    GRIDGOV_… options that gridgov itself has, and know which senders may speak of their own cases only.

    Start it again whenever it ends: the database knows the place. Start several with one --group to share the work.
    What cannot be worked in is in the table `gridgov_aside` with place and reason, and is tried again at each start.
    Figures for Prometheus, how far it is behind among them, are at port GRIDGOV_SINK_METRICS_PORT.
    """

    store = _database(database, config.sink_database)
    catalogue = Catalogue.load(config.catalogue_dir)
    rules = rules_of(config, catalogue)
    tables_of = Sink(store, rules, fingerprint(catalogue, rules), names(catalogue), frozenset(own_only))
    chosen = Selection(frozenset(kinds), categories, streets)
    settings = connection(config) | {"client_id": group}
    reader = Reader(
        settings,
        store,
        tables_of.handle,
        group=group,
        topics=catalogue.topics,
        select=chosen,
        prepare=tables_of.open,
    )
    stop, loop = threading.Event(), _Loop(tables_of)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    _serve(config, reader)
    try:
        reader.run(stop, lambda: loop.turn(stop if once and reader.caught_up else None))
    except HOPELESS as error:
        fail(f"no reading on at {', '.join(config.kafka_servers)}: {type(error).__name__}: {error}")
    done = reader.counts
    click.echo(
        f"{done.reports} reports worked in, {done.duplicates} duplicates dropped,"
        f" {done.foreign + done.failed} set aside",
        err=True,
    )


class _Loop:
    """What is done beside reading: cases whose time has run out are judged."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._sweep_at = 0.0

    def turn(self, stop: threading.Event | None) -> None:
        """Once a second, or each turn while there is more; `stop`: when that is done, all that was wanted is."""
        if stop is not None or time.monotonic() >= self._sweep_at:
            more = self._sink.sweep(int(time.time() * 1000))
            self._sweep_at = time.monotonic() + (0.0 if more else SWEEP_SECONDS)
            if more:
                return
        if stop is not None:
            stop.set()


def _database(told: str | None, configured: str | None) -> Database:
    if told and masked(told) != told:
        click.secho(
            "a password on the command line can be read by everybody on this machine:"
            " use GRIDGOV_SINK_DATABASE, PGPASSWORD or ~/.pgpass",
            fg="yellow",
            err=True,
        )
    if (url := told or configured) is None:
        fail("no database: gridgov sink sqlite:///cases.db, or set GRIDGOV_SINK_DATABASE", 2)
    try:
        return Database.at(url)
    except UnknownDatabase as error:
        fail(str(error), 2)


def _serve(config: Config, reader: Reader) -> None:
    made = registry("sink")
    made.register(SinkCollector(reader))
    begun = time.time()

    def alive() -> bool:
        return time.time() - max(begun, reader.seen_at) < HANG_SECONDS

    def ready() -> Readiness:
        return Readiness(Health.DEGRADED, (reader.trouble,)) if reader.trouble else Readiness(Health.READY)

    ops.serve(ops.blueprint(made, alive=alive, ready=ready), config.metrics_host, config.sink_metrics_port)
    watchdog.tell(os.environ, alive)
