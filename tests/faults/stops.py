"""Rows about the web process ending around a commit, about polite stops, and about a key file that turns bad."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import orjson

from tests.faults.launcher import sabotage
from tests.faults.probes import flowing_from_start, on_lasting_broker, pause, repeated, told
from tests.faults.rows import ROWS, Row, Seen, Setting
from tests.faults.trial import Kept, flowing
from tests.gridgov import report, until

DEATHS, SHARE = 5, 0.02  # how often the process dies, and at which share of its commits
STOPS, SHORT_STOPS = 20, 4
LOOK_SECONDS = 2.0  # after so long the key file was surely looked at again
BAD_FILES = (b"{", b"", orjson.dumps({"keys": [{"id": "x"}]}))

Broken = Mapping[str, str] | None

# ---- around a commit ----


def dies(setting: Setting, *, after: bool, broken: Broken = None) -> Seen:
    """What was in the commit is answered to its next post: as new when it ended before, with its receipt after it."""
    log = setting.directory / "deaths"
    plan = {"after": after, "share": SHARE, "most": DEATHS, "seed": setting.seed, "log": str(log)}
    with (
        on_lasting_broker(setting, **sabotage(dies=plan)) as (one, _),
        Kept(one.gridgov, "web", "relay", broken=broken),
    ):
        flowing(one.gridgov)
        with one.clients(threads=8, pace=0.01) as clients:
            until(lambda: log.read_text().count("\n") >= DEATHS, f"{DEATHS} deaths", seconds=120)
            before = clients.answered
            until(lambda: clients.answered >= before + 200, "posts flow", seconds=60)
        wrong = repeated(one)
        found = one.judged(breaks=0)
    caught = set(log.read_text().split())
    if after:
        known = {name for name, [receipt, *_] in one.ledger.read()[1].items() if receipt["duplicate"]}
    else:  # not by its answer: a second death may have cut off the one to the first repeat
        known = caught - set((setting.directory / "deaths.again").read_text().split())
    as_told = caught <= known if after else not known
    figures = (
        f"{DEATHS} deaths with {len(caught)} reports, {len(caught & known)} of them known when repeated,"
        f" {clients.told['broken']} posts cut off; {found.figures}"
    )
    return told(wrong, found.met and as_told and clients.told["broken"] >= DEATHS, figures)


# ---- asked to stop ----


def stops(setting: Setting, broken: Broken = None) -> Seen:
    """SIGTERM to web and relay in turn, under load: what was not answered is posted again."""
    times = SHORT_STOPS if setting.short or broken else STOPS
    with on_lasting_broker(setting) as (one, _), Kept(one.gridgov, "web", "relay", broken=broken) as kept:
        flowing(one.gridgov)
        with one.clients(threads=8, pace=0.01) as clients:
            for number in range(times):
                before = clients.answered
                until(lambda before=before: clients.answered >= before + 100, "posts flow", seconds=60)  # type: ignore[misc]
                kept.end(("web", "relay")[number % 2])
        wrong = repeated(one)
        found = one.judged(breaks=times)
    answers = ", ".join(f"{what} {many}" for what, many in sorted(clients.told.items()))
    return told(wrong, found.met, f"{times} stops, posts: {answers}; {found.figures}")


# ---- a key file that turns bad ----


def bad_keys(setting: Setting, **more: dict[str, Any]) -> Seen:
    """Somebody edits the key file and breaks it: the keys of before stay valid, and nobody else gets in."""
    with on_lasting_broker(setting, **sabotage(**more)) as (one, _):
        run = one.gridgov
        key = run.run("keys", "add", "platform", "--role", "sender", check=True).stdout.strip()
        flowing_from_start(run)
        file, answers = run.data_dir / "keys.json", []
        for number, content in enumerate((None, *BAD_FILES)):
            if content is not None:
                file.write_bytes(content)
            pause(LOOK_SECONDS)
            sent = report(f"{one.prefix}-{number}", report_id=f"{one.prefix}-{number}")
            one.ledger.sent(sent)
            status, receipt, _ = run.post(sent, Authorization=f"Bearer {key}")
            answers.append((status, run.post(sent)[0]))
            if status == 202:
                one.ledger.accepted(receipt)
        said = run.log.count("keys not reloaded, the old ones stay")
        found = one.judged(breaks=0)
    figures = f"with the key, without: {sorted(set(answers))}; logged {said} times; {found.figures}"
    return told([], found.met and set(answers) == {(202, 401)} and said > 0, figures)


ROWS += [
    Row(
        "web dies before the commit",
        "no answer; the repeat is new, 0 lost",
        partial(dies, after=False),
        partial(dies, after=False, broken={"web": "flush"}),
        "answers before the flush",
        in_short=True,
    ),
    Row(
        "web dies after the commit",
        "no answer; the repeat gets the first receipt, 0 twice",
        partial(dies, after=True),
        partial(dies, after=True, broken={"web": "dedupe"}),
        "the journal does not recognise a repeat",
        in_short=True,
    ),
    Row(
        "SIGTERM, web and relay in turn",
        "repeats are safe; 0 lost, in order",
        stops,
        partial(stops, broken={"web": "dedupe"}),
        "the journal does not recognise a repeat",
    ),
    Row(
        "key file turns bad",
        "the old keys stay, nobody else gets in, it is logged",
        bad_keys,
        partial(bad_keys, hasty={}),
        "a bad file counts as one without keys",
        in_short=True,
    ),
]
