"""The command line `gridgov`."""

import logging
import logging.config
import os
import shlex
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
import orjson

from schemas.catalogue import Catalogue
from schemas.times import format_time
from service import config as configuration
from service import logs
from service.cases.casebook import Period, Search
from service.cli import cases as case_cli
from service.config import Config, ConfigError
from service.intake.keys import Keys, KeysError, Role
from service.journal.journal import SqliteJournal, set_aside
from service.journal.salvage import salvage
from service.ports import JournalError
from service.version import VERSION

if TYPE_CHECKING:
    from service.broker.consume import Record
    from service.broker.topics import Topic
    from service.domain.standards import Rules


PATIENCE_SECONDS = 60.0  # for a broker that is just starting
CONNECTIONS = 1024  # open at the same time; the server counts idle ones too, and answers no newcomer above


def _fail(text: str, code: int = 1) -> NoReturn:
    click.secho(text, fg="red", err=True)
    sys.exit(code)


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the `Config`; wrong options end it with all problems listed (exit code 2)."""
    return _given_config(command, lambda _: None)


def serving(command: Callable[..., None]) -> Callable[..., None]:
    """As `configured`; what only those who accept or publish need (keys, catalogue, disk) is looked at as well."""

    def check(config: Config) -> None:
        from service.app import checked  # noqa: PLC0415 - imports that the other commands need not pay for

        checked(config)

    return _given_config(command, check)


def _given_config(command: Callable[..., None], check: Callable[[Config], None]) -> Callable[..., None]:
    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        config, problems = configuration.read(os.environ)
        try:
            check(config)
            if not problems:
                logging.config.dictConfig(logs.settings(config.log_level))
                command(config, *args, **kwargs)
        except ConfigError as error:
            problems = problems + error.problems
        if problems:
            _fail("configuration:\n" + "\n".join(f"  - {problem}" for problem in problems), 2)

    return wrapped


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION)
def main() -> None:
    """gridgov takes repair and incident reports over HTTP, keeps them safe, and publishes them to Kafka.

    \b
    Try it:      gridgov run                     (or `make run` in a checkout: with a broker)
    Send:        gridgov replay reports.ndjson
    Receive:     gridgov consume --from-beginning
    Watch:       gridgov cases --overdue, gridgov standards
    Look after:  gridgov journal status, gridgov topics, gridgov keys list

    Every option is an environment variable; `gridgov config` shows them all.
    """


@main.command()
@serving
def web(config: Config) -> None:
    """Run the web process: accept reports over HTTP into the journal."""
    from granian import Granian  # noqa: PLC0415 - imports cost half a second that the other commands need not pay
    from granian.constants import Interfaces  # noqa: PLC0415
    from granian.log import LogLevels  # noqa: PLC0415

    Granian(
        "service.app:web",
        factory=True,
        address=config.host,
        port=config.port,
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=config.threads,
        backpressure=CONNECTIONS,
        websockets=False,
        workers_kill_timeout=10,
        log_level=LogLevels(config.log_level.lower()),
        log_dictconfig=logs.settings(config.log_level),
    ).serve()


@main.command()
@serving
def relay(config: Config) -> None:  # noqa: ARG001 - read again by the composition root
    """Run the relay: publish the journal to Kafka. A second one waits as hot standby."""
    from service.app import relay as run_relay  # noqa: PLC0415

    run_relay()


@main.command()
@click.option("--with", "others", multiple=True, metavar="COMMAND", help="Keep this command going too, e.g. a broker.")
@serving
def run(config: Config, others: tuple[str, ...]) -> None:
    """Run web and relay together on this machine, and keep them going.

    A process that ends is started again with back-off; when one keeps ending, everything stops with exit code 1.
    For production let systemd or Kubernetes keep `gridgov web` and `gridgov relay` going.
    """
    from service.processes import Child, GaveUp, keep  # noqa: PLC0415
    from service.relay.pulse import pulseless  # noqa: PLC0415

    ours = [
        Child("web", [sys.executable, "-m", "service.cli", "web"]),
        Child("relay", [sys.executable, "-m", "service.cli", "relay"], hangs=lambda: pulseless(config.data_dir)),
    ]
    theirs = [Child(command, shlex.split(command), essential=False) for command in others]
    try:
        keep([*ours, *theirs])
    except GaveUp as error:
        _fail(f"gave up: {error}")


@main.command("config")
@configured
def show_config(config: Config) -> None:  # noqa: ARG001 - having one proves that the options are right
    """Show every option: its name in the environment, value, default, unit and meaning."""
    for option in configuration.options():
        name, default = configuration.env_name(option), option.metadata["default"]
        value = os.environ.get(name, default).strip()
        changed = click.style(f"{name}={value}", bold=value != default)
        unit = f" [{option.metadata['unit']}]" if option.metadata["unit"] else ""
        click.echo(f"{changed}\n    {option.metadata['doc']}{unit}; default {default or 'none'}")


@main.command()
@click.option("--apply", is_flag=True, help="Create the missing topics.")
@configured
def topics(config: Config, apply: bool) -> None:
    """Show the catalogue's topics as the cluster has them, and what is missing or weak.

    Exits with 1 while anything is. `--apply` creates missing topics with GRIDGOV_TOPIC_PARTITIONS and
    GRIDGOV_TOPIC_REPLICATION; it never changes one that exists.
    """
    from service.broker.topics import Cluster, ClusterUnreachable, weaknesses  # noqa: PLC0415

    names = Catalogue.load(config.catalogue_dir).topics
    cluster = Cluster(config)
    try:
        found = cluster.describe(names)
        missing = [name for name, topic in found.items() if not topic.partitions]
        if apply and missing:
            errors = cluster.create(missing, partitions=config.topic_partitions, replication=config.topic_replication)
            for name in missing:
                click.echo(f"{name}: {errors.get(name, 'created')}")
            found = _once_visible(lambda: cluster.describe(names), errors.keys())
        auto = cluster.auto_creates()
    except ClusterUnreachable as error:
        _fail(f"no answer from {', '.join(config.kafka_servers)}: {error}")
    finally:
        cluster.close()
    weak = False
    for name, topic in found.items():
        problems = weaknesses(topic, config)
        weak = weak or bool(problems)
        state = click.style("; ".join(problems), fg="yellow") if problems else "ok"
        click.echo(f"{name:38} partitions {topic.partitions}  replicas {topic.replication}  {state}")
    if auto:
        click.secho("auto.create.topics.enable is on: a misspelt topic would be made instead of noticed", fg="yellow")
    if weak:
        sys.exit(1)


def _once_visible(describe: "Callable[[], dict[str, Topic]]", failed: Collection[str]) -> "dict[str, Topic]":
    """The topics once every broker knows of those just created, or after a few seconds."""
    end = time.monotonic() + 5
    while True:
        found = describe()
        if all(topic.pause is None for topic in found.values() if topic.name not in failed) or time.monotonic() > end:
            return found
        time.sleep(0.1)


@main.group()
def keys() -> None:
    """Keys of senders (who post reports) and readers (the sub-centre)."""


@keys.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True)
@configured
def keys_add(config: Config, name: str, role: str) -> None:
    """Make a key for NAME and print it, once. Running processes know it within a second.

    At most two live keys per name: hand out the new one, then revoke the old one.
    """
    with _keys(config) as store:
        secret = store.add(name, Role(role))
    click.echo(secret)
    click.echo("This key is shown once and kept nowhere. Use it as: Authorization: Bearer <key>", err=True)


@keys.command("list")
@configured
def keys_list(config: Config) -> None:
    """List all keys, revoked ones too; never a secret."""
    with _keys(config) as store:
        found = store.all()
    for key in found:
        click.echo(f"{key.id}  {key.role:7} {key.name:24} since {key.created_at}  {_ended(key.revoked_at)}")
    if not found:
        click.echo("no key: requests from this machine are let in as 'local', nobody else", err=True)


@keys.command("revoke")
@click.argument("key_id")
@configured
def keys_revoke(config: Config, key_id: str) -> None:
    """End the key KEY_ID (see `gridgov keys list`) within a second."""
    with _keys(config) as store:
        key = store.revoke(key_id)
    click.echo(f"revoked {key.id} of {key.name}")


@main.group()
def journal() -> None:
    """Look into the journal, and help parked messages on."""


@journal.command("status")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@configured
def journal_status(config: Config, as_json: bool) -> None:
    """Show how many reports are accepted, settled, pending and parked, and whether the ledger adds up."""
    with _journal(config) as store:
        totals, fill = store.totals(), store.fill()
    shown = {
        "journal_id": store.journal_id,
        **asdict(totals),
        "used_bytes": fill.used,
        "limit_bytes": fill.limit,
        "oldest_pending_at": fill.oldest and format_time(fill.oldest),
    }
    if as_json:
        click.echo(orjson.dumps(shown))
    else:
        for name, value in shown.items():
            click.echo(f"{name:18} {'-' if value is None else value}")
    if totals.mismatch:
        _fail(f"the ledger is off by {totals.mismatch}: rows have left the journal behind gridgov's back")


@journal.command("parked")
@configured
def journal_parked(config: Config) -> None:
    """List the messages that Kafka would not take, with the reason."""
    with _journal(config) as store:
        found = store.parked()
    for one in found:
        click.echo(
            f"{one.seq}  {format_time(one.parked_at)}  {one.topic}  case {one.case_id}  report {one.report_id} of"
            f" {one.sender}  {one.size} bytes  {one.reason}: {one.detail}"
        )
    if not found:
        click.echo("nothing is parked", err=True)


@journal.command("requeue")
@click.argument("seqs", nargs=-1, type=int)
@click.option("--all", "everything", is_flag=True, help="Every parked message.")
@configured
def journal_requeue(config: Config, seqs: tuple[int, ...], everything: bool) -> None:
    """Try parked messages again, after what made Kafka refuse them was mended.

    Each gets a new journal-seq at the end of the line, so that consumers do not take it for a duplicate.
    """
    with _journal(config) as store:
        chosen = [one.seq for one in store.parked()] if everything else list(seqs)
        moved = store.requeue(chosen)
    for old, new in moved.items():
        click.echo(f"{old} -> {new}")
    unknown = [str(seq) for seq in chosen if seq not in moved]
    if unknown:
        _fail(f"not parked: {', '.join(unknown)}")


@journal.command("drain")
@click.option("--timeout", type=float, default=300, show_default=True, help="Seconds to wait.")
@configured
def journal_drain(config: Config, timeout: float) -> None:
    """Wait until nothing is pending, e.g. before this machine is taken away. Stop sending to it first.

    Exits with 1 when reports are still pending or parked after the time-out, saying how many.
    """
    with _journal(config) as store:
        left = before = store.fill().pending
        with click.progressbar(length=before, label="published", file=sys.stderr, show_pos=True) as bar:
            end = time.monotonic() + timeout
            while left and time.monotonic() < end:
                time.sleep(0.2)
                left, last = store.fill().pending, left
                bar.update(max(0, last - left))
        parked = len(store.parked())
    if left:
        _fail(f"{left} reports still pending after {timeout:.0f} s: is the relay running, does Kafka answer?")
    if parked:
        _fail(f"nothing is pending, but {parked} reports are parked: see `gridgov journal parked`")
    click.echo("drained: everything accepted is in Kafka")


@journal.command("salvage")
@configured
def journal_salvage(config: Config) -> None:
    """Bring back what a corrupt journal that was set aside still holds. Safe to repeat, and while the service runs."""
    with _journal(config) as store:
        found = set_aside(config.data_dir)
        for aside in found:
            done = salvage(aside, store)
            click.echo(f"{aside}: {done.brought} reports brought back, {done.known} were known; the files stay there")
            if lost := done.conflicts + done.damaged:
                told = f"{done.conflicts} of another content than their id now stands for, {done.damaged} damaged"
                click.echo(f"{lost} were left there ({told}); the log names them", err=True)
    if not found:
        click.echo("no journal was set aside", err=True)


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--url", help="Where the API is; default this machine's.")
@click.option("--key-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File with the API key.")
@click.option("--batch", type=click.IntRange(1, 1000), default=100, show_default=True, help="Reports per request.")
@click.option("--tries", type=click.IntRange(0, 10000), default=100, show_default=True, help="Before giving up.")
@configured
def replay(  # noqa: PLR0917 - click gives one per option
    config: Config, file: Path, url: str | None, key_file: Path | None, batch: int, tries: int
) -> None:
    """Post the reports of FILE (NDJSON, one per line), in order.

    Whatever is not answered is sent again under the same report_id, which is always safe; Retry-After is honoured.
    Exits with 1 when reports were refused.
    """
    from service.cli.replay import ReplayError, numbered_lines  # noqa: PLC0415
    from service.cli.replay import replay as post  # noqa: PLC0415

    lines = numbered_lines(file)
    key = key_file.read_text(encoding="ascii").strip() if key_file else None
    with click.progressbar(length=len(lines), label=file.name, file=sys.stderr, show_pos=True) as bar:
        try:
            outcome = post(
                lines,
                url or f"http://{config.host}:{config.port}",
                key=key,
                batch=batch,
                tries=tries,
                progress=bar.update,
            )
        except ReplayError as error:
            _fail(f"\nstopped: {error}\nwhat was answered is safe; run it again to send the rest")
    click.echo(f"accepted {outcome.accepted}  duplicate {outcome.duplicates}  refused {len(outcome.refused)}")
    for line, status, code, details in outcome.refused:
        click.echo(f"  line {line}: {status} {code} {details}")
    if outcome.refused:
        sys.exit(1)


@main.command()
@click.option("--from-beginning", is_flag=True, help="Everything the topics hold, not only what comes from now on.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per message: place, headers and value.")
@click.option("--duplicates", is_flag=True, help="Show duplicates too, marked; they are dropped otherwise.")
@click.option("--idle", type=float, help="End after so many seconds without a message; default: go on until Ctrl-C.")
@configured
def consume(config: Config, from_beginning: bool, as_json: bool, duplicates: bool, idle: float | None) -> None:
    """Read the topics, one line per message, dropping duplicates by journal-seq."""
    from service.broker.consume import consume as read  # noqa: PLC0415
    from service.broker.topics import ClusterUnreachable  # noqa: PLC0415

    count = dropped = 0
    try:
        for record in read(
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
        _fail(f"no answer from {', '.join(config.kafka_servers)}: {error}")
    except KeyboardInterrupt:
        pass
    click.echo(f"{count} messages, {dropped} duplicates", err=True)


@main.command()
@click.option("--phase", type=click.Choice(case_cli.PHASES))
@click.option("--kind", type=click.Choice(case_cli.KINDS))
@click.option("--supervision", type=click.Choice(case_cli.SUPERVISIONS), help="urgent = 紧逼督办")
@click.option("--campaign", help="Name of the campaign, e.g. 第三届进博会.")
@click.option("--overdue", is_flag=True, help="Only cases past a deadline that is not fulfilled.")
@click.option("--due-soon", is_flag=True, help="Only cases whose deadline is near.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per case, as the API shows it.")
@configured
def cases(config: Config, *, overdue: bool, due_soon: bool, as_json: bool, **chosen: str | None) -> None:
    """List cases as their reports tell them, from this machine's casebook.

    Waits up to 10 s until every accepted report is in its case, and says so when it is not.
    """
    wanted = Search(**chosen, overdue=overdue or None, due_soon=due_soon or None)
    case_cli.show_cases(config, _rules(config), wanted, as_json=as_json)


@main.command()
@click.option("--from", "since", metavar="DAY", help="Cases reported from this day on (the district's time zone).")
@click.option("--to", "until", metavar="DAY", help="… and before this one.")
@click.option("--campaign", help="Only this campaign, e.g. 第三届进博会.")
@click.option("--phase", "campaign_phase", type=click.Choice(["trial", "formal"]), help="Only this phase of it.")
@click.option("--supervision", type=click.Choice(case_cli.SUPERVISIONS), help="urgent = 紧逼督办")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
@configured
def standards(config: Config, *, since: str | None, until: str | None, form: str, **chosen: str | None) -> None:
    """The figures the district is judged by, exact from the casebook: 完成率 按时到场率 按期处置率 超期未处置数 返工率.

    \b
    gridgov standards --campaign 第三届进博会 --supervision urgent
    gridgov standards --from 2020-10-26 --to 2020-11-11 --format csv
    """
    zone = Catalogue.load(config.catalogue_dir).timezone
    period = Period(case_cli.day(since, zone, 0), case_cli.day(until, zone, case_cli.LATEST_MS), **chosen)
    case_cli.show_standards(config, _rules(config), period, form)


def _rules(config: Config) -> "Rules":
    from service.app import promises  # noqa: PLC0415

    return promises(config, Catalogue.load(config.catalogue_dir))


def _as_line(record: "Record") -> str:
    value = orjson.loads(record.value)
    name = (value["category_name"] or value["major_name"])["zh"]
    mark = " duplicate" if record.duplicate else ""
    return (
        f"{value['occurred_at']}  {record.topic}[{record.partition}]@{record.offset}  {record.key}"
        f"  {value['stage']:10} {value['category']} {name}  {value['report_id']}{mark}"
    )


def _as_json(record: "Record") -> bytes:
    place = {"topic": record.topic, "partition": record.partition, "offset": record.offset, "key": record.key}
    shown = {**place, "headers": record.headers, "value": orjson.loads(record.value)}
    return orjson.dumps(shown | ({"duplicate": True} if record.duplicate else {}))


def _ended(revoked_at: str | None) -> str:
    return f"revoked {revoked_at}" if revoked_at else "live"


@contextmanager
def _keys(config: Config) -> Iterator[Keys]:
    try:
        yield Keys(config.keys)
    except KeysError as error:
        _fail(str(error))


@contextmanager
def _journal(config: Config) -> Iterator[SqliteJournal]:
    if not (config.data_dir / "journal.sqlite3").exists():
        _fail(f"no journal in {config.data_dir} (GRIDGOV_DATA_DIR)")
    try:
        yield SqliteJournal(config.data_dir, limit=config.journal_limit)
    except JournalError as error:
        _fail(f"journal: {error}")
