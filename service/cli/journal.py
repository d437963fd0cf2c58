"""`gridgov journal`: what is in it, and helping on what is stuck there."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace

import click
import orjson

from schemas.times import format_time
from service.audit.trail import What
from service.cli.command import audited, configured, fail, note
from service.config import Config
from service.consumer.database import masked
from service.journal.salvage import salvage
from service.journal.side import Journal
from service.journal.upkeep import set_aside
from service.ports import JournalError
from service.storage.move import move, unused
from service.storage.storage import chosen


@click.group()
def journal() -> None:
    """Look into the journal, and help parked messages on."""


@journal.command("status")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@configured
def journal_status(config: Config, as_json: bool) -> None:
    """Show how many reports are accepted, settled, pending and parked, and whether the ledger adds up."""
    with opened_journal(config) as store:
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
        fail(f"the ledger is off by {totals.mismatch}: rows have left the journal behind gridgov's back")


@journal.command("parked")
@configured
def journal_parked(config: Config) -> None:
    """List the messages that Kafka would not take, with the reason."""
    with opened_journal(config) as store:
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
@audited(What.REQUEUE)
def journal_requeue(config: Config, seqs: tuple[int, ...], everything: bool) -> None:
    """Try parked messages again, after what made Kafka refuse them was mended.

    Each gets a new journal-seq at the end of the line, so that consumers do not take it for a duplicate.
    """
    with opened_journal(config) as store:
        chosen = [one.seq for one in store.parked()] if everything else list(seqs)
        moved = store.requeue(chosen)
    note(moved=list(moved.values()))
    for old, new in moved.items():
        click.echo(f"{old} -> {new}")
    unknown = [str(seq) for seq in chosen if seq not in moved]
    if unknown:
        fail(f"not parked: {', '.join(unknown)}")


@journal.command("drain")
@click.option("--timeout", type=float, default=300, show_default=True, help="Seconds to wait.")
@configured
def journal_drain(config: Config, timeout: float) -> None:
    """Wait until nothing is pending, e.g. before this machine is taken away. Stop sending to it first.

    Exits with 1 when reports are still pending or parked after the time-out, saying how many.
    """
    with opened_journal(config) as store:
        left = before = store.fill().pending
        with click.progressbar(length=before, label="published", file=sys.stderr, show_pos=True) as bar:
            end = time.monotonic() + timeout
            while left and time.monotonic() < end:
                time.sleep(0.2)
                left, last = store.fill().pending, left
                bar.update(max(0, last - left))
        parked = len(store.parked())
    if left:
        fail(f"{left} reports still pending after {timeout:.0f} s: is the relay running, does Kafka answer?")
    if parked:
        fail(f"nothing is pending, but {parked} reports are parked: see `gridgov journal parked`")
    click.echo("drained: everything accepted is in Kafka")


@journal.command("salvage")
@configured
@audited(What.SALVAGE)
def journal_salvage(config: Config) -> None:
    """Bring back what a corrupt journal that was set aside still holds. Safe to repeat, and while the service runs."""
    with opened_journal(config) as store:
        found = set_aside(config.data_dir)
        for aside in found:
            done = salvage(aside, store)
            note(**{aside.name: asdict(done)})
            click.echo(f"{aside}: {done.brought} reports brought back, {done.known} were known; the files stay there")
            if lost := done.conflicts + done.damaged:
                told = f"{done.conflicts} of another content than their id now stands for, {done.damaged} damaged"
                click.echo(f"{lost} were left there ({told}); the log names them", err=True)
    if not found:
        click.echo("no journal was set aside", err=True)


class Address:
    """Where to move to; shown, also to the audit log, without its password."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __str__(self) -> str:
        return masked(self.url)


@journal.command("move")
@click.option("--to", "to", type=Address, required=True, help="postgresql://…, or `files` for GRIDGOV_DATA_DIR.")
@configured
@audited(What.MOVE)
def journal_move(config: Config, to: Address) -> None:
    """Bring all that the journal and the casebook hold to an empty PostgreSQL, or back to files. Stop gridgov first.

    Pending and parked reports, receipts, cases and totals stay what they are, under the same seqs and a new journal-id.
    What was handed to Kafka and not acknowledged may reach consumers a second time, under the new id.
    """
    if to.url != "files" and not to.url.startswith(("postgresql://", "postgres://")):
        raise click.UsageError("--to is postgresql://… or files")
    target = replace(config, journal=None if to.url == "files" else to.url)
    if target.journal == config.journal:
        fail("it is there already")
    try:
        with unused(config.data_dir):
            chosen(config).looking().close()
            where, moved = move(chosen(config).place(), chosen(target).place())
    except JournalError as error:
        fail(f"not moved: {error}")
    note(moved=moved)
    for table, rows in moved.items():
        click.echo(f"{table:12} {rows}")
    click.echo(f"moved; what was there is kept as {where}. Now set GRIDGOV_JOURNAL={to if target.journal else ''}")


@contextmanager
def opened_journal(config: Config) -> Iterator[Journal]:
    """The journal, which must be there already; what goes wrong with it ends the command."""
    try:
        yield chosen(config).looking()
    except JournalError as error:
        fail(f"journal: {error}")
