"""Rows about the disk under the journal: full, read-only, gone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import partial

from tests.faults import mounts
from tests.faults.launcher import sabotage
from tests.faults.probes import on_lasting_broker, pending, readiness, repeated, restarts, told, unsabotaged
from tests.faults.rows import ROWS, Row, Seen, Setting
from tests.faults.trial import Trial, flowing
from tests.gridgov import Gridgov, report, until
from tests.system.clients import Clients

POSTS = 7000
BACK_SECONDS = 10.0  # after Kafka's first answer: drained and accepting

# ---- full ----


def full(setting: Setting, *, filler: bool, env: Mapping[str, str] | None = None) -> Seen:
    """Kafka is down until nothing more fits; with `filler` somebody else's file takes what the journal has left."""
    with mounts.tmpfs(setting.directory / "var", mebibytes=16) as disk, on_lasting_broker(setting, **env or {}) as on:
        one, kafka = on
        run = one.gridgov
        run.start()
        flowing(run)
        until(lambda: "no_ballast" in str(env) or (disk / "ballast").exists(), "room is set aside")
        kafka.stop()
        with one.clients(threads=8) as clients:
            if filler:
                until(lambda: clients.answered >= 1000, "posts flow", seconds=60)
                mounts.fill(disk)
            until(lambda: clients.told["refused"] > 0 and clients.told.total() >= POSTS, "posts", seconds=120)
            wrong, kept = _while_full(one), pending(run)
            kafka.start()
            drained = _seconds(lambda: pending(run) < 200)  # the clients go on, so it is never quite empty
            (disk / "filler").unlink(missing_ok=True)
            opened = _seconds(partial(_open, run, clients, clients.answered + 200))
            if math.inf in (drained, opened):  # help it, or the clients would ask for ever
                mounts.grow(disk, mebibytes=64)
                unsabotaged(run)
        found = one.judged(breaks=0)
    clean = clients.told.keys() <= {"accepted", "duplicate", "refused"} and restarts(run) == 0
    figures = (
        f"{clients.told['refused']} of {clients.told.total()} refused, {kept} pending; Kafka back: drained in"
        f" {drained:.1f} s, then open in {opened:.1f} s, {restarts(run)} restarts; {found.figures}"
    )
    return told(wrong, found.met and clean and drained + opened < BACK_SECONDS, figures)


def _while_full(one: Trial) -> list[str]:
    """What is wrong with the answers of a gridgov that has no room."""
    problems = repeated(one)
    status, body, headers = one.gridgov.post(report("one-too-many"))
    if (status, body["code"]) != (503, "journal_full") or not headers.get("Retry-After", "").isdigit():
        problems.append(f"a new report: {status} {body} Retry-After {headers.get('Retry-After')}")
    status, reasons = readiness(one.gridgov)
    if (status, reasons) != (503, ["journal_full"]):
        problems.append(f"/readyz: {status} {reasons}")
    return problems


def _open(run: Gridgov, clients: Clients, answered: int) -> bool:
    return readiness(run) == (200, []) and clients.answered >= answered


def _seconds(check: Callable[[], bool]) -> float:
    """Until it is so; infinite when it takes twice as long as is allowed."""
    begin = time.monotonic()
    try:
        until(check, "", seconds=2 * BACK_SECONDS)
    except AssertionError:
        return math.inf
    return time.monotonic() - begin


MARK = {"GRIDGOV_JOURNAL_LIMIT": str(4 << 20)}

ROWS += [
    Row(
        "journal full, at its mark",
        "503 at the mark, repeats 202, 0 lost; open < 10 s",
        partial(full, filler=False, env=MARK),
        partial(full, filler=False, env=MARK | sabotage(never_reopens={})),
        "a mark below which it never opens again",
        needs=("root",),
    ),
    Row(
        "disk full, by the journal itself",
        "503, not ready, repeats 202, 0 lost; open < 10 s",
        partial(full, filler=False),
        partial(full, filler=False, env=sabotage(no_reserve={}, no_ballast={})),
        "nothing kept free, no ballast",
        needs=("root",),
    ),
    Row(
        "disk full, by somebody else's file",
        "503, not ready, repeats 202, 0 lost; open < 10 s",
        partial(full, filler=True),
        partial(full, filler=True, env=sabotage(no_ballast={})),
        "no ballast",
        needs=("root",),
    ),
]
