"""`gridgov standards`: the figures the district is judged by, exact from the casebook."""

import csv
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import click
import orjson

from schemas.catalogue import Catalogue
from schemas.times import format_time
from service.cases.rules import rules_of
from service.cases.search import Period
from service.cli.cases import SUPERVISIONS, caught_up, opened
from service.cli.command import configured
from service.config import Config

LATEST_MS = int(datetime(9999, 1, 1, tzinfo=UTC).timestamp() * 1000)
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


@click.command()
@click.option("--from", "since", metavar="DAY", help="Cases reported from this day on (the district's time zone).")
@click.option("--to", "until", metavar="DAY", help="… and before this one.")
@click.option("--campaign", help="Only this campaign, e.g. 第三届进博会.")
@click.option("--phase", "campaign_phase", type=click.Choice(["trial", "formal"]), help="Only this phase of it.")
@click.option("--supervision", type=click.Choice(SUPERVISIONS), help="urgent = 紧逼督办")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
@configured
def standards(config: Config, *, since: str | None, until: str | None, form: str, **chosen: str | None) -> None:
    """The figures the district is judged by, exact from the casebook: 完成率 按时到场率 按期处置率 超期未处置数 返工率.

    \b
    gridgov standards --campaign 第三届进博会 --supervision urgent
    gridgov standards --from 2020-10-26 --to 2020-11-11 --format csv
    """
    catalogue = Catalogue.load(config.catalogue_dir)
    rules, zone = rules_of(config, catalogue), catalogue.timezone
    period = Period(day(since, zone, 0), day(until, zone, LATEST_MS), **chosen)
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
