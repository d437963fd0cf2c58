"""`gridgov simulate`: a district's days, told to a gridgov as a platform would; and are its figures right."""

import sys
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import orjson

from schemas.catalogue import Catalogue
from service.cli.command import configured, fail
from service.cli.compare import differences, settled
from service.cli.platform import Platform
from service.cli.replay import Http, Outcome, ReplayError, read_key
from service.cli.standards import day, rates, table, with_sums
from service.config import Config
from service.simulate.calls import Scenario, Setting
from service.simulate.expected import figures
from service.simulate.run import Run, Words
from service.simulate.telling import Clock
from service.simulate.truth import HOUR, MINUTE

CHECK_TRIES = 20
MOST_NAMED = 20  # cases that differ, refused reports
LONGEST_DAYS = 3  # after the last simulated one: by then the longest repair is approved


@click.command()
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="The same seed makes the same days.")
@click.option("--cases", type=click.IntRange(1, 100_000), default=400, show_default=True, help="Of a dry day.")
@click.option("--days", type=click.IntRange(1, 31), default=1, show_default=True, help="One after the other.")
@click.option(
    "--scenario",
    "scenarios",
    multiple=True,
    type=click.Choice([one.value for one in Scenario]),
    help="May be given again.",
)
@click.option(
    "--day", "date", metavar="DAY", help="History: where the first day lies. Default: the latest that is over."
)
@click.option("--speed", type=click.FloatRange(min=1), help="Live: so many times as fast as the day, from now on.")
@click.option("--begin", metavar="HH:MM", help="Live: the time of day to begin at; what was before comes at once.")
@click.option("--url", help="Where the API is; default this machine's.")
@click.option("--key-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File with the API key.")
@click.option("--connections", type=click.IntRange(1, 64), default=4, show_default=True, help="That post at once.")
@click.option(
    "--batch", type=click.IntRange(1, 1000), default=50, show_default=True, help="Reports per request at most."
)
@click.option("--expect", type=click.Path(dir_okay=False, path_type=Path), help="Write what must come of it, as JSON.")
@click.option("--check", is_flag=True, help="Compare with what gridgov came to; exit code 1 on any difference.")
@click.option("--wait", type=click.FloatRange(min=0), default=150, show_default=True, help="Seconds --check waits.")
@click.option("--dry-run", is_flag=True, help="Post nothing: write the posts as NDJSON to standard output.")
@configured
def simulate(config: Config, **chosen: Any) -> None:
    """Tell a district's days: what is found, who goes there, what goes wrong; and the figures that must come of them.

    \b
    gridgov simulate --check                       a day of the past, at once; are the figures right?
    gridgov simulate --speed 60 --begin 07:30      a day in 24 minutes, beginning now with the morning
    gridgov simulate --scenario rain --scenario retry-storm --scenario operation
    gridgov simulate --dry-run > day.ndjson        to be looked at, or for `gridgov replay`

    Without --speed the days are history: they lie on the calendar from --day on, and are posted as fast as is taken.
    The same words make the same reports, so posting them again changes nothing. With --speed they are told live, and
    each case is laid so that it is finished when that is posted: its lengths up to then stay true. A repair is first
    posted when somebody is there, or when it is too late for that.

    \b
    rain          15:00-17:30: flooded roads, slow crews
    retry-storm   10:30-10:50: the platform gets no answers in time and sends everything again, and again
    operation     07:00-20:00: an assurance operation as for the CIIE, urgently supervised

    It posts over several connections, in batches, some reports twice, some late, and some never; it waits when told
    to (429, 503, Retry-After) and loses none. What is expected is worked out from the simulation's own truth, by code
    that gridgov does not use, for clocks that start at `reported`. --check reads the cases back over the API; what
    nobody finishes is decided two minutes (the grace) after it was posted, so it waits for that.
    """
    run = _run(chosen, Catalogue.load(config.catalogue_dir))
    if chosen["expect"]:
        chosen["expect"].write_bytes(orjson.dumps(run.document(), option=orjson.OPT_INDENT_2))
    if chosen["dry_run"]:
        sys.stdout.buffer.writelines(post.line + b"\n" for post in run.posts)
        return
    url, connections, batch = (
        chosen["url"] or f"http://{config.host}:{config.port}",
        chosen["connections"],
        chosen["batch"],
    )
    try:
        key = read_key(chosen["key_file"]) if chosen["key_file"] else None
        with Platform(url, key=key, connections=connections, batch=batch) as platform:
            _tell(run, platform)
        right = _report(run, platform.outcomes)
        if chosen["check"]:
            with Http(url, key=key, tries=CHECK_TRIES) as http:
                right &= _compared(run, http, chosen["wait"])
    except ReplayError as error:
        fail(f"\nstopped: {error}\nwhat was answered is safe; run it again to send the rest")
    if not right:
        sys.exit(1)


def _run(chosen: dict[str, Any], catalogue: Catalogue) -> Run:
    """What was asked for. Raises `click.UsageError` for what contradicts itself, or time."""
    words = Words(
        chosen["seed"],
        chosen["days"],
        Setting(catalogue, chosen["cases"], frozenset(map(Scenario, chosen["scenarios"]))),
    )
    now, zone = datetime.now(catalogue.timezone), catalogue.timezone
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if chosen["speed"] is not None:
        if chosen["date"]:
            raise click.UsageError("--day is history, --speed is live: one of them")
        begin = _clock(chosen["begin"]) if chosen["begin"] else int((now - midnight).total_seconds() * 1000)
        return Run.of(words, Clock(int(now.timestamp() * 1000), zone, chosen["speed"], begin))
    if chosen["begin"]:
        raise click.UsageError("--begin needs --speed")
    latest = midnight - timedelta(days=words.days + LONGEST_DAYS)
    run = Run.of(words, Clock(day(chosen["date"], zone, int(latest.timestamp() * 1000)), zone))
    if run.over_ms > now.timestamp() * 1000:
        over = datetime.fromtimestamp(run.over_ms / 1000, zone)
        raise click.UsageError(
            f"that is not over before {over:%Y-%m-%d %H:%M}: choose an earlier --day, or tell it with --speed"
        )
    return run


def _clock(text: str) -> int:
    """Milliseconds since midnight."""
    hours, _, minutes = text.partition(":")
    if not (hours.isdecimal() and minutes.isdecimal() and int(hours) < 24 and int(minutes) < 60):
        raise click.BadParameter(f"{text!r} is no time of day like 07:30")
    return int(hours) * HOUR + int(minutes) * MINUTE


# ---- telling ----


def _tell(run: Run, platform: Platform) -> None:
    """Hand every post to the platform, when its time has come."""
    live = run.clock.speed is not None
    began = time.monotonic() - time.time() + run.clock.began_ms / 1000
    hour = run.clock.begin // HOUR
    hidden = live or not sys.stderr.isatty()
    with click.progressbar(length=len(run.posts), label=run.name, file=sys.stderr, show_pos=True, hidden=hidden) as bar:
        for number, post in enumerate(run.posts):
            time.sleep(max(0.0, began + post.after - time.monotonic()) if live else 0)
            platform.post(number, post.case_id, post.line, again=post.again)
            bar.update(1)
            if live and (now := _hour(run, post.after)) > hour:
                hour = now
                click.echo(f"{run.name}: {hour % 24:02}:00, {number + 1} of {len(run.posts)} posted", err=True)


def _hour(run: Run, after: float) -> int:
    """Which hour it is in a live telling, from the first midnight on."""
    return int(run.clock.begin + after * 1000 * (run.clock.speed or 1)) // HOUR


def _report(run: Run, outcomes: Sequence[Outcome]) -> bool:
    """Say what became of the posts, and what is expected; whether none was refused."""
    refused = [one for outcome in outcomes for one in outcome.refused]
    accepted, duplicates = (sum(getattr(one, name) for one in outcomes) for name in ("accepted", "duplicates"))
    click.echo(f"{run.name}: accepted {accepted}  duplicate {duplicates}  refused {len(refused)}")
    for number, status, code, details in refused[:MOST_NAMED]:
        click.echo(f"  {orjson.loads(run.posts[number].line)['report_id']}: {status} {code} {details}")
    _show("expected", run.figures())
    return not refused


def _show(title: str, rows: list[dict[str, Any]]) -> None:
    click.echo(f"\n{title}:")
    for line in table([rates(row) for row in with_sums(rows)]) if rows else ():
        click.echo(line)


# ---- checking ----


def _compared(run: Run, http: Http, wait: float) -> bool:
    """Say what gridgov came to; whether all of it is as expected."""
    patience = max(0.0, run.over_ms / 1000 - time.time()) + wait
    found = settled(http, run.name, run.expected, patience)
    _show("gridgov", figures(found.values()))
    wrong = differences(run.expected, found)
    for line in wrong[:MOST_NAMED]:
        click.secho(line, fg="red")
    click.echo(f"\n{len(run.expected)} cases: " + (f"{len(wrong)} differ" if wrong else "all as expected"))
    return not wrong
