"""`gridgov cases` and `gridgov standards`: the casebook on the terminal, exact as of a moment that is told."""

import csv
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import click
import orjson

from schemas.catalogue import Catalogue
from schemas.times import format_time
from schemas.words import Kind, Supervision
from service.cases.casebook import Casebook, Period, Search
from service.config import Config
from service.domain.case import Case, Phase
from service.domain.standards import Rules
from service.domain.view import view
from service.journal.journal import SqliteJournal

WAIT_SECONDS = 10.0
PAGE = 500
_KINDS = {"repair": "部件 repair", "incident": "事件 incident"}
# key, heading: the trade's names (zh), then ours
FIGURES = (
    ("campaign_phase", "阶段 phase"),
    ("kind", "类别 kind"),
    ("reported", "上报数 reported"),
    ("approved", "办结数 approved"),
    ("completion_rate", "完成率 approved/reported"),
    ("arrival_rate", "按时到场率 arrival met"),
    ("in_time_rate", "按期处置率 completion met"),
    ("missed", "超期数 breached"),
    ("overdue_unfinished", "超期未处置数 overdue"),
    ("rework_rate", "返工率 reworked"),
)


def caught_up(casebook: Casebook, journal: SqliteJournal) -> bool:
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


def found(casebook: Casebook, wanted: Search, now_ms: int) -> Iterator[Case]:
    """Every case that is wanted, page by page."""
    after = ""
    while page := casebook.search(wanted, now_ms=now_ms, after=after, limit=PAGE):
        yield from page
        after = page[-1].case_id


def case_line(case: Case, now_ms: int, rules: Rules, zone: ZoneInfo) -> str:
    """One case on one line."""
    shown = view(case, now_ms, rules)
    judged = "  ".join(_standard(one) for one in shown["standards"])
    since = local(case.facts[0].occurred_at, zone)
    return f"{case.case_id:20} {case.kind:8} {case.category:5} {shown['phase']:17} {since}  {judged}"


def _standard(one: dict[str, Any]) -> str:
    state = one["outcome"] or ("OVERDUE" if one["overdue"] else "open")
    taken = "" if one["elapsed_seconds"] is None else f" {timedelta(seconds=int(one['elapsed_seconds']))}"
    return f"{one['standard']} {state}{taken}"


def local(ms: int, zone: ZoneInfo) -> str:
    """A moment on the district's clocks."""
    return datetime.fromtimestamp(ms / 1000, zone).strftime("%Y-%m-%d %H:%M:%S")


def day(text: str | None, zone: ZoneInfo, default: int) -> int:
    """The beginning of a day on the district's clocks, in epoch milliseconds. Raises `click.BadParameter`."""
    if text is None:
        return default
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no date like 2020-10-26, nor a time like 2020-10-26T08:00") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp() * 1000)


def rates(row: dict[str, Any]) -> dict[str, Any]:
    """A row of counts with the trade's ratios; None where there is nothing to divide by."""
    arrivals = row["arrival_met"] + row["arrival_breached"]
    completions = row["completion_met"] + row["completion_breached"]
    return row | {
        "completion_rate": _ratio(row["approved"], row["reported"]),
        "arrival_rate": _ratio(row["arrival_met"], arrivals),
        "in_time_rate": _ratio(row["completion_met"], completions),
        "missed": row["arrival_breached"] + row["completion_breached"],
        "rework_rate": _ratio(row["reworked"], row["reported"]),
    }


def with_sums(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows, each campaign phase followed by its sum, and the sum of all at the end."""
    phases = list(dict.fromkeys(row["campaign_phase"] for row in rows))
    for phase in phases:
        yield from (of_phase := [row for row in rows if row["campaign_phase"] == phase])
        yield _summed(phase, of_phase)
    if len(phases) > 1:
        yield _summed("all", rows)


def _summed(phase: str | None, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    counts = [key for key, value in rows[0].items() if isinstance(value, int)]
    return {"campaign_phase": phase, "kind": "all", **{key: sum(row[key] for row in rows) for key in counts}}


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The figures in columns; Chinese characters take two places."""
    cells = [[heading for _, heading in FIGURES]]
    cells += [[_cell(key, row[key]) for key, _ in FIGURES] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = (text + " " * (width - _width(text)) for text, width in zip(line, widths, strict=True))
        yield "  ".join(padded).rstrip()


def _cell(key: str, value: Any) -> str:
    if key.endswith("_rate"):
        return "-" if value is None else f"{value:.1%}"
    return "-" if value is None else _KINDS.get(value, str(value))


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


@contextmanager
def opened(config: Config, rules: Rules) -> Iterator[tuple[Casebook, SqliteJournal]]:
    """Casebook and journal of this machine, which must be there already."""
    if not (config.data_dir / "journal.sqlite3").exists():
        raise click.ClickException(f"no journal in {config.data_dir} (GRIDGOV_DATA_DIR)")
    journal = SqliteJournal(config.data_dir, limit=config.journal_limit)
    casebook = Casebook(config.data_dir, rules)
    try:
        yield casebook, journal
    finally:
        casebook.close()
        journal.close()


def show_cases(config: Config, rules: Rules, wanted: Search, *, as_json: bool) -> None:
    """`gridgov cases`."""
    zone = Catalogue.load(config.catalogue_dir).timezone
    with opened(config, rules) as (casebook, journal):
        caught_up(casebook, journal)
        now_ms, count = int(time.time() * 1000), 0
        for case in found(casebook, wanted, now_ms):
            count += 1
            click.echo(orjson.dumps(view(case, now_ms, rules)) if as_json else case_line(case, now_ms, rules, zone))
    click.echo(f"{count} cases as of {local(now_ms, zone)}", err=True)


def show_standards(config: Config, rules: Rules, period: Period, form: str) -> None:
    """`gridgov standards`."""
    now_ms = int(time.time() * 1000)
    with opened(config, rules) as (casebook, journal):
        complete = caught_up(casebook, journal)
        counted = casebook.figures(period, now_ms)
    rows = [rates(row) for row in with_sums(counted)]
    if form == "json":
        click.echo(orjson.dumps({"as_of": format_time(now_ms), "complete": complete, "figures": rows}))
    elif form == "csv":
        written = csv.DictWriter(sys.stdout, [key for key, _ in FIGURES], extrasaction="ignore")
        written.writerow(dict(FIGURES))
        written.writerows(rows)
    elif rows:
        for line in table(rows):
            click.echo(line)
    else:
        click.echo("no case was reported in that period", err=True)


PHASES = [phase.value for phase in Phase]
KINDS = [kind.value for kind in Kind]
SUPERVISIONS = [level.value for level in Supervision]
LATEST_MS = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp() * 1000)
