"""`gridgov rejects`: what known senders got refused, and sending it again once the catalogue knows it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click
import orjson
from prometheus_client import CollectorRegistry

from schemas.catalogue import Catalogue
from schemas.reasons import Reason
from schemas.times import format_time
from service.audit.trail import What
from service.cli.command import audited, configured, fail, note
from service.cli.journal import opened_journal
from service.config import Config
from service.domain.meaning import Flag
from service.intake.accept import Intake, Refused
from service.intake.keys import LOCAL, Keys, KeysError, Principal, Role
from service.intake.policies import Policies
from service.journal.side import Journal
from service.metrics import web_metrics
from service.ports import Conflict, JournalError, JournalFull, Message, Receipt
from service.quarantine.store import Kept, Quarantine, columns, exists

MENDABLE = {Reason.UNKNOWN_CATEGORY, Reason.CATEGORY_OF_OTHER_KIND}  # by a change of the catalogue


@click.group()
def rejects() -> None:
    """Reports that known senders got refused: kept for GRIDGOV_QUARANTINE_DAYS, masked, also in Kafka."""


@rejects.command("list")
@click.option("--sender", help="Only of this sender.")
@click.option("--last", type=click.IntRange(1), default=50, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@configured
def rejects_list(config: Config, sender: str | None, last: int, as_json: bool) -> None:
    """List them, oldest first: ids and reasons, nothing of what they say."""
    with _quarantine(config) as store:
        found = store.all(sender=sender, limit=last)
    for one in found:
        click.echo(orjson.dumps(columns(one)) if as_json else _line(one))
    if not found:
        click.echo("nothing was refused", err=True)


@rejects.command("show")
@click.argument("ids", nargs=-1, type=int, required=True)
@configured
@audited(What.REJECTS_VIEWED)
def rejects_show(config: Config, ids: tuple[int, ...]) -> None:
    """Show what is kept of these: why they were refused, and what they said, masked."""
    with _quarantine(config) as store:
        found = [store.get(id_) for id_ in ids]
    for one in filter(None, found):
        click.echo(orjson.dumps(orjson.loads(one.value), option=orjson.OPT_INDENT_2))
    if missing := [str(id_) for id_, one in zip(ids, found, strict=True) if one is None]:
        fail(f"no such refused report: {', '.join(missing)}")


@rejects.command("replay")
@click.argument("ids", nargs=-1, type=int)
@click.option("--all", "everything", is_flag=True, help="All that a change of the catalogue can mend.")
@configured
@audited(What.REJECTS_REPLAYED)
def rejects_replay(config: Config, ids: tuple[int, ...], everything: bool) -> None:
    """Send refused reports again, under their sender and id, to the catalogue as it is now.

    That they come a second time harms nothing: their sender gets the receipt when it sends one again itself. Those of
    which not everything was kept are left out. Exits with 1 when any is still refused.
    """
    catalogue = Catalogue.load(config.catalogue_dir)
    done, refused = 0, 0
    with _quarantine(config) as store, opened_journal(config) as journal:
        intake, senders = _intake(config, catalogue, journal), _senders(config)
        for one in _chosen(store, ids, everything=everything):
            outcome = _again(one, intake, senders.get(one.sender))
            if isinstance(outcome, Receipt):
                done += 1
                store.replayed(one.id, int(time.time() * 1000))
                click.echo(f"{one.id}: accepted as {one.report_id} of {one.sender}{_known(outcome)}")
            else:
                refused += 1
                click.echo(f"{one.id}: {outcome}", err=True)
    note(accepted=done, refused=refused)
    click.echo(f"accepted {done}  refused {refused}")
    if refused:
        fail("what is still refused stays where it is")


def _chosen(store: Quarantine, ids: Sequence[int], *, everything: bool) -> list[Kept]:
    if everything:
        waiting = [one for one in store.all() if one.faithful and one.replayed_at is None]
        return [one for one in waiting if one.codes and set(one.codes.split()) <= MENDABLE]
    found = {id_: store.get(id_) for id_ in ids}
    if missing := [str(id_) for id_, one in found.items() if one is None]:
        fail(f"no such refused report: {', '.join(missing)}")
    return [one for one in found.values() if one is not None]


def _senders(config: Config) -> dict[str, Principal]:
    """Who may send, by name, as their newest key has it."""
    try:
        known = Keys(config.keys).all()
    except KeysError as error:
        fail(str(error))
    live = [key for key in known if key.role is Role.SENDER and key.ends > time.time()]
    return {LOCAL.name: LOCAL} | {key.name: Principal(key.name, frozenset((key.role,)), key.scope) for key in live}


def _again(one: Kept, intake: Intake, sender: Principal | None) -> Receipt | str:
    """Its receipt, or why there is none."""
    if sender is None:
        return f"{one.sender} has no live key; it may send nothing any more"
    if not one.faithful:
        return "not everything of it was kept; its sender must send it again"
    [answer] = intake.accept(sender, [orjson.loads(one.value)["report"]])
    if isinstance(answer, Refused):
        told = [f"{problem.pointer or '/'} {problem.reason.en}" for problem in answer.problems] or [answer.reason.en]
        return f"still refused: {'; '.join(told)}"
    return answer


def _known(receipt: Receipt) -> str:
    return " (it was known already)" if receipt.duplicate else ""


class _Straight:
    """Appends without a queue."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def submit(self, messages: Sequence[Message]) -> list[Receipt | Conflict]:
        [answers] = self._journal.append([messages])
        if isinstance(answers, JournalFull):
            raise answers
        return answers


def _intake(config: Config, catalogue: Catalogue, journal: Journal) -> Intake:
    metrics = web_metrics(  # that nobody scrapes
        CollectorRegistry(),
        routes=[],
        majors=catalogue.majors,
        stages=list(catalogue.stages),
        reasons=list(Reason),
        flags=list(Flag),
    )
    return Intake(
        catalogue,
        _Straight(journal),
        metrics,
        clock=lambda: int(time.time() * 1000),
        accept_unknown_minor=config.unknown_minor == "accept_and_flag",
        policies=Policies.load(config.personal_data_file, config.personal_numbers),
    )


def _line(one: Kept) -> str:
    again = "  accepted later" if one.replayed_at else ""
    what = f"report {one.report_id or '-'} of {one.sender}, case {one.case_id or '-'}"
    return f"{one.id}  {format_time(one.last_at)}  {what}  {one.reason}: {one.codes or '-'}  x{one.times}{again}"


@contextmanager
def _quarantine(config: Config) -> Iterator[Quarantine]:
    if not exists(config.data_dir):
        fail(f"nothing was ever refused in {config.data_dir} (GRIDGOV_DATA_DIR)")
    try:
        store = Quarantine(config.data_dir, limit=config.quarantine_limit)
        yield store
        store.close()
    except JournalError as error:
        fail(f"quarantine: {error}")
