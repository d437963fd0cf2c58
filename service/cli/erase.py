"""`gridgov erase`: takes out what reports say of people, and tells where else it is."""

from collections.abc import Callable
from contextlib import closing
from functools import partial

import click

from schemas.catalogue import Catalogue
from schemas.rejected import TOPIC
from schemas.times import format_time
from service.audit.trail import What
from service.cases.casebook import Casebook
from service.cases.rules import rules_of
from service.cli.command import audited, configured, fail, note
from service.cli.journal import opened_journal
from service.config import Config
from service.journal.erase import Erased
from service.journal.store import JournalMissing
from service.journal.upkeep import set_aside
from service.ports import JournalError, State
from service.quarantine.store import Quarantine, exists
from service.storage.storage import chosen


@click.command()
@click.option("--report", "report", nargs=2, metavar="SENDER REPORT_ID", help="One report.")
@click.option("--case", "case", metavar="CASE_ID", help="Every report of a case.")
@configured
@audited(What.ERASE)
def erase(config: Config, report: tuple[str, str] | None, case: str | None) -> None:
    """Take everything that may be about a person out of a report, or out of all reports of a case.

    Ids, kind, category, stage and times stay, and so do the case and its outcomes; what is not in Kafka yet gets there
    without the rest. What is in Kafka is told: it stays there until the topic's retention has passed. Safe to repeat.
    """
    if (report is None) == (case is None):
        raise click.UsageError("say which: either --report SENDER REPORT_ID or --case CASE_ID")
    what, name = ("report", report) if report else ("case", (case or "",))
    with opened_journal(config) as journal:
        found = journal.erase(what, *name)
        rules = rules_of(config, Catalogue.load(config.catalogue_dir))
        aside = _erased("casebook", lambda: chosen(config).casebook(rules, make=False), what, name)
    quarantine = partial(Quarantine, config.data_dir, limit=config.quarantine_limit)
    refused = _erased("quarantine", quarantine, what, name) if exists(config.data_dir) else 0
    note(reports=len(found), in_kafka=sum(_perhaps_in_kafka(one) for one in found))
    for one in found:
        _tell(one, config)
    if aside:
        click.echo(f"casebook: the text of {aside} reports that could not be worked in is taken out")
    if refused:
        click.echo(f"{TOPIC}: {refused} records of it, refused and masked, stay in Kafka until the topic's retention")
    for path in set_aside(config.data_dir):
        click.secho(f"{path}: a corrupt journal; it is left as it is, delete it once it is salvaged", fg="yellow")
    if not (found or aside or refused):
        fail(
            "no receipt of it is left: nothing of it is in the journal. Receipts of what is in Kafka stay"
            f" {config.dedupe_days} days; what was published before that may still be there"
        )


def _erased(where: str, opened: Callable[[], Casebook | Quarantine], what: str, name: tuple[str, ...]) -> int:
    """How many reports a file beside the journal had the text of; none where there is no such file."""
    try:
        with closing(opened()) as file:
            return file.erase(what, *name)
    except JournalMissing:
        return 0
    except JournalError as error:
        fail(f"{where}: {error}")


def _perhaps_in_kafka(one: Erased) -> bool:
    return one.state is State.SETTLED or bool(one.handed and one.state is State.PENDING)


def _tell(one: Erased, config: Config) -> None:
    click.echo(f"report {one.report_id} of {one.sender}, case {one.case_id}: {one.state}; its text is taken out here")
    if one.state is State.SETTLED:
        since = format_time(one.settled_at or 0)
        place = f"{one.topic}, partition {one.partition}, offset {one.offset}"
        click.echo(
            f"  in Kafka since {since}: {place}, until its retention ({config.topic_retention_hours} h) has passed"
        )
        click.echo(
            f"  a tombstone for who keeps it by key: {one.topic}, partition {one.partition}, key {one.case_id}, null"
        )
    elif _perhaps_in_kafka(one):
        click.echo(f"  it was just being handed to {one.topic}: look again for its place (repeat this command)")
