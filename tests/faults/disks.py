"""Rows about the disk under the journal: full, read-only, gone."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import urllib3

from tests.broker import Broker
from tests.faults import mounts
from tests.faults.launcher import sabotage
from tests.faults.probes import (
    flowing_from_start,
    missing,
    on_lasting_broker,
    pause,
    pending,
    readiness,
    repeated,
    restarts,
    told,
    unflushed_attempts_excused,
    unsabotaged,
)
from tests.faults.rows import ROWS, Row, Seen, Setting
from tests.faults.trial import Trial, trial
from tests.gridgov import Gridgov, report, until
from tests.system.checker import check, read_topics
from tests.system.clients import Clients

POSTS = 7000
BACK_SECONDS = 10.0  # after Kafka's first answer: drained and accepting

# ---- full ----


def full(setting: Setting, *, filler: bool, env: Mapping[str, str] | None = None) -> Seen:
    """Kafka is down until nothing more fits; with `filler` somebody else's file takes what the journal has left."""
    with mounts.tmpfs(setting.directory / "var", mebibytes=16) as disk, on_lasting_broker(setting, **env or {}) as on:
        one, kafka = on
        run = one.gridgov
        flowing_from_start(run)
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


def started_full(setting: Setting, env: Mapping[str, str] | None = None) -> Seen:
    """Reports are pending, the disk is filled while nothing runs: SQLite cannot even open its files there."""
    with mounts.tmpfs(setting.directory / "var", mebibytes=16) as disk, on_lasting_broker(setting, **env or {}) as on:
        one, kafka = on
        run = one.gridgov
        flowing_from_start(run)
        until(lambda: "no_ballast" in str(env) or (disk / "ballast").exists(), "room is set aside")
        kafka.stop()
        waiting = len(_promised(one, "waiting", 1000))
        run.stop()
        kafka.start()
        mounts.fill(disk)
        run.start()
        drained = _seconds(lambda: pending(run) == 0)
        (disk / "filler").unlink()
        opened = _seconds(lambda: readiness(run) == (200, []))
        if math.inf in (drained, opened):  # a control: nobody would come to its help
            unsabotaged(run)
        found = one.judged(breaks=1)
    figures = f"{waiting} pending; drained in {drained:.1f} s, room given back, open in {opened:.1f} s; {found.figures}"
    return told([], found.met and drained + opened < 2 * BACK_SECONDS, figures)


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


# ---- not writable ----


def unwritable(setting: Setting, *, gone: bool, **more: dict[str, Any]) -> Seen:
    """ext4 turns read-only at an error of the disk, or the disk stops to answer; it is mended with gridgov stopped."""
    with mounts.ext4(setting.directory) as disk, on_lasting_broker(setting, **sabotage(**more)) as (one, _):
        run = one.gridgov
        flowing_from_start(run)
        with one.clients(threads=8, pace=0.01) as clients:
            until(lambda: clients.answered >= 300, "posts flow")
            disk.cut_power() if gone else disk.turn_read_only()
            answers = _probed(run, seconds=2)
            before = clients.answered
            pause(3)
            late = clients.answered - before
            run.stop()
            disk.repair()
            unsabotaged(run)
        wrong = repeated(one)
        found = unflushed_attempts_excused(one.judged(breaks=1))
    honest = ("503", "journal_unavailable") in answers and late == 0
    heard = ", ".join(" ".join(one) for one in sorted(answers))
    return told(wrong, found.met and honest, f"/readyz: {heard}; {late} answers 202 afterwards; {found.figures}")


def _probed(run: Gridgov, *, seconds: float) -> set[tuple[str, ...]]:
    """Everything that /readyz tells meanwhile."""
    answers = set()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            status, reasons = readiness(run)
            answers.add((str(status), *reasons))
        except (OSError, urllib3.exceptions.HTTPError):
            answers.add(("no answer",))
        pause(0.02)
    return answers


# ---- destroyed ----


def destroyed(setting: Setting, *, kafka_too: bool = False) -> Seen:
    """The data directory is deleted while reports are pending: those are lost, and the promise says so."""
    kafka = Broker(setting.directory / "kafka")
    with trial(setting, kafka) as one:
        run = one.gridgov
        flowing_from_start(run)
        safe = _promised(one, "safe", 300)
        run.settled()
        kafka.stop()
        waiting = _promised(one, "waiting", 200) - safe
        run.processes[0].kill()
        run.stop()
        shutil.rmtree(run.data_dir)
        if kafka_too:
            shutil.rmtree(kafka.data_dir)
        kafka.start()
        flowing_from_start(run)
        _promised(one, "later", 100)
        run.settled()
        verdict = check(one.ledger, read_topics(kafka.bootstrap, one.prefix))
    lost = missing(verdict)
    others = [problem for problem in verdict.problems if problem.partition(":")[0] not in waiting]
    figures = f"{len(lost)} lost of {len(safe)} settled and {len(waiting)} pending; the checker names each"
    return told(others, lost == waiting != set(), figures)


def _promised(one: Trial, name: str, reports: int) -> set[str]:
    """All that clients have been promised, after some more."""
    with one.clients(name, threads=4) as clients:
        until(lambda: clients.answered >= reports, "posts flow", seconds=60)
    return set(one.ledger.read()[1])


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
    Row(
        "started on a full disk",
        "drained by its ballast; open once there is room, 0 lost",
        started_full,
        partial(started_full, env=sabotage(no_ballast={})),
        "no ballast",
        needs=("root",),
    ),
    Row(
        "file system turns read-only",
        "503 with its reason, never 202; goes on once mended",
        partial(unwritable, gone=False),
        partial(unwritable, gone=False, credulous={}),
        "believes that the commit went well",
        needs=("loop", "mkfs.ext4", "e2fsck"),
    ),
    Row(
        "disk gone for a while",
        "503 with its reason, never 202; goes on once mended",
        partial(unwritable, gone=True),
        partial(unwritable, gone=True, credulous={}),
        "believes that the commit went well",
        needs=("loop", "mkfs.ext4", "e2fsck"),
    ),
    Row(
        "disk destroyed",
        "lost: only what was pending",
        destroyed,
        partial(destroyed, kafka_too=True),
        "Kafka's disk is destroyed too",
    ),
]
