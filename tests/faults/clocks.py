"""Rows about the wall clock: it jumps a day ahead, or a day back, and is right again later."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

from tests.faults.launcher import sabotage
from tests.faults.probes import flowing_from_start, on_lasting_broker, pause, readiness, repeated, restarts, told
from tests.faults.rows import ROWS, Row, Seen, Setting
from tests.gridgov import until
from tests.system.clients import Clients

DAY = 86_400
A_WHILE = 300  # answers
REASON = "topic_clock_wrong:"
GROWN_UP = 12.0  # seconds from which on a child may be found to hang
PATIENCE = 15.0  # seconds until /readyz gives it


def jumps(setting: Setting, *, ahead: bool, **more: dict[str, Any]) -> Seen:
    """The clocks of web and relay jump under load, Kafka's is right; old receipts are looked for all the time."""
    clock = setting.directory / "seconds"
    clock.write_text("0")
    odd = sabotage(false_clock={"file": str(clock)}, tidies_at_once={}, **more)
    with on_lasting_broker(setting, **odd) as (one, _):
        run = one.gridgov
        flowing_from_start(run)
        with one.clients(threads=8, pace=0.01) as clients:
            _answered(clients)
            clock.write_text(f"{DAY if ahead else -DAY}")
            _answered(clients)
            heard = set[str]()
            with suppress(AssertionError):  # never given: that is for the verdict
                until(lambda: _heard(heard, readiness(run)[1]) or not ahead, "it is told", seconds=PATIENCE)
            clock.write_text("0")
            _answered(clients)
        wrong = repeated(one)
        found = one.judged(breaks=1)
    honest = any(reason.startswith(REASON) for reason in heard) is ahead
    accepted = clients.told.keys() == {"accepted"}
    figures = f"/readyz told {', '.join(sorted(heard)) or 'nothing'}; {restarts(run)} restarts; {found.figures}"
    return told(wrong, found.met and accepted and honest and restarts(run) == 0, figures)


def steps(setting: Setting, **more: dict[str, Any]) -> Seen:
    """The time of day steps a minute ahead for whoever keeps the processes going; the relay is as healthy as before."""
    clock = setting.directory / "seconds"
    clock.write_text("0")
    with on_lasting_broker(setting, **sabotage(step_of_run={"file": str(clock)}, **more)) as (one, _):
        run = one.gridgov
        flowing_from_start(run)
        with one.clients(threads=4, pace=0.01) as clients:
            pause(GROWN_UP)
            clock.write_text("60")
            pause(3)
            _answered(clients)
        found = one.judged(breaks=1)
    killed = run.log.count("killed, it hangs")
    return Seen(found.met and killed == 0, f"{killed} killed, {restarts(run)} restarts; {found.figures}")


def _heard(heard: set[str], reasons: list[str]) -> bool:
    heard |= set(reasons)
    return any(reason.startswith(REASON) for reason in reasons)


def _answered(clients: Clients) -> None:
    before = clients.answered
    until(lambda: clients.answered >= before + A_WHILE, "posts flow", seconds=60)


ROWS += [
    Row(
        "clock a day ahead",
        "202; Kafka refuses the time: waits, is told, 0 lost",
        partial(jumps, ahead=True),
        partial(jumps, ahead=True, blames_the_record={}),
        "parks what Kafka refuses for its time",
        in_short=True,
    ),
    Row(
        "clock a day back",
        "202, in order, repeats get their receipt, 0 lost",
        partial(jumps, ahead=False),
        partial(jumps, ahead=False, forgetful={}),
        "the journal does not recognise a repeat",
    ),
    Row(
        "clock steps a minute under the watchdog",
        "no healthy relay is killed, 0 lost",
        steps,
        partial(steps, by_the_clock={}),
        "goes by the pulse's time stamp",
        in_short=True,
    ),
]
