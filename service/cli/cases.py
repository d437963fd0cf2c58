"""`gridgov cases`: the casebook on the terminal, exact as of a moment that is told."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import click
import orjson

from schemas.catalogue import Catalogue
from schemas.times import format_time, parse_time
from schemas.words import Kind, Supervision
from service.cases.casebook import Casebook
from service.cases.rules import rules_of
from service.cases.search import Found, Search
from service.cli.command import configured
from service.config import Config
from service.domain.case import Phase
from service.domain.standards import Rules
from service.domain.view import view
from service.ports import Feed, JournalError
from service.storage.storage import chosen

WAIT_SECONDS = 10.0
PAGE = 500
PHASES = [phase.value for phase in Phase]
KINDS = [kind.value for kind in Kind]
SUPERVISIONS = [level.value for level in Supervision]


@click.command()
@click.option("--phase", type=click.Choice(PHASES))
@click.option("--kind", type=click.Choice(KINDS))
@click.option("--supervision", type=click.Choice(SUPERVISIONS), help="urgent = 紧逼督办")
@click.option("--campaign", help="Name of the campaign, e.g. 第三届进博会.")
@click.option("--overdue", is_flag=True, help="Only cases past a deadline that is not fulfilled.")
@click.option("--due-soon", is_flag=True, help="Only cases whose deadline is near.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per case, as the API shows it.")
@configured
def cases(config: Config, *, overdue: bool, due_soon: bool, as_json: bool, **chosen: str | None) -> None:
    """List cases as their reports tell them, from this machine's casebook.

    Waits up to 10 s until every accepted report is in its case, and says so when it is not.
    """
    catalogue = Catalogue.load(config.catalogue_dir)
    rules, zone = rules_of(config, catalogue), catalogue.timezone
    wanted = Search(**chosen, overdue=overdue or None, due_soon=due_soon or None)
    with opened(config, rules) as (casebook, journal):
        caught_up(casebook, journal)
        now_ms, count = int(time.time() * 1000), 0
        for one in found(casebook, wanted, now_ms):
            try:
                shown = view(one.case(), now_ms, rules)
            except Exception as error:  # noqa: BLE001  # whatever is wrong with one case, the others are listed
                click.secho(f"case {one.case_id} cannot be read: {type(error).__name__}", fg="red", err=True)
                continue
            count += 1
            click.echo(orjson.dumps(shown) if as_json else case_line(shown, zone))
    click.echo(f"{count} cases as of {local(now_ms, zone)}", err=True)


@contextmanager
def opened(config: Config, rules: Rules) -> Iterator[tuple[Casebook, Feed]]:
    """Casebook and journal, which must be there already."""
    storage = chosen(config)
    try:
        journal, casebook = storage.looking(), storage.casebook(rules)
    except JournalError as error:
        raise click.ClickException(str(error)) from error
    try:
        yield casebook, journal
    finally:
        casebook.close()
        journal.close()


def caught_up(casebook: Casebook, journal: Feed) -> bool:
    """Wait, bounded, until the cases have every accepted report; say so on standard error when they do not."""
    end = time.monotonic() + WAIT_SECONDS
    last, _ = journal.marks()
    while True:
        meta = casebook.meta()
        cursor = meta.get("cursor", 0) if meta.get("journal_id") == journal.journal_id else 0
        if cursor >= last:
            return True
        if time.monotonic() > end:
            as_of = format_time(meta.get("as_of", 0))
            click.secho(
                f"not everything: {last - cursor} accepted reports are not in their cases yet, after waiting"
                f" {WAIT_SECONDS:.0f} s; is the relay running? These figures are as of {as_of}.",
                fg="yellow",
                err=True,
            )
            return False
        time.sleep(0.05)


def found(casebook: Casebook, wanted: Search, now_ms: int) -> Iterator[Found]:
    """Every case that is wanted, page by page."""
    after = ""
    while page := casebook.search(wanted, now_ms=now_ms, after=after, limit=PAGE):
        yield from page
        after = page[-1].case_id


def case_line(shown: dict[str, Any], zone: ZoneInfo) -> str:
    """One case on one line."""
    judged = "  ".join(_standard(one) for one in shown["standards"])
    since = local(parse_time(shown["stages"][0]["occurred_at"]), zone)
    return f"{shown['case_id']:20} {shown['kind']:8} {shown['category']:5} {shown['phase']:17} {since}  {judged}"


def _standard(one: dict[str, Any]) -> str:
    state = one["outcome"] or ("OVERDUE" if one["overdue"] else "open")
    taken = "" if one["elapsed_seconds"] is None else f" {timedelta(seconds=int(one['elapsed_seconds']))}"
    return f"{one['standard']} {state}{taken}"


def local(ms: int, zone: ZoneInfo) -> str:
    """A moment on the district's clocks."""
    return datetime.fromtimestamp(ms / 1000, zone).strftime("%Y-%m-%d %H:%M:%S")
