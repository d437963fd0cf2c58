"""Rows about a broker that is there and cannot be reached: frozen, black-holed, its connections reset."""

from __future__ import annotations

import ctypes
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from tests.broker import Broker
from tests.faults.launcher import sabotage
from tests.faults.rows import ROWS, Row, Seen, Setting
from tests.faults.trial import MOST_BUSY, Kept, Trial, age, cpu_seconds, flowing, trial
from tests.gridgov import until

CLONE_NEWNET = 0x40000000
SHORT_SECONDS = 5.0  # of each calm and each trouble in the short form, and in a control
BACK_SECONDS = 10.0  # after the trouble, until what waited is in Kafka

Trouble = Callable[[Broker], AbstractContextManager[None]]


def unreached(setting: Setting, trouble: Trouble, *, seconds: float, rounds: int, **sabotaged: str) -> Seen:
    """Calm and trouble in turn, so long each; the medians of their p99s are compared."""
    if setting.short or sabotaged:
        seconds, rounds = SHORT_SECONDS, 1 if sabotaged else rounds
    kafka = Broker(setting.directory / "kafka")
    with trial(setting, kafka, **sabotaged) as one, Kept(one.gridgov, "web", "relay") as processes:
        flowing(one.gridgov)
        with one.clients(threads=4, pace=0.02) as clients:
            until(lambda: clients.answered >= 100, "posts flow")
            seen = [_round(one, partial(trouble, kafka), processes.pid("relay"), seconds) for _ in range(rounds)]
        found = one.judged(breaks=rounds)
    calm, troubled, busy, caught_up = map(statistics.median, zip(*seen, strict=True))
    met = troubled < max(2 * calm, calm + 0.01) and caught_up < BACK_SECONDS and busy < MOST_BUSY
    told = (
        f"{rounds} × {seconds:.0f} s: p99 {calm * 1000:.1f} ms calm, {troubled * 1000:.1f} ms in trouble;"
        f" the relay then takes {busy:.0%} of a core; age < 1 s after {caught_up:.1f} s"
    )
    return Seen(found.met and met and clients.told.keys() == {"accepted"}, f"{told}; {found.figures}")


def _round(
    one: Trial, trouble: Callable[[], AbstractContextManager[None]], relay: int, seconds: float
) -> tuple[float, float, float, float]:
    """The p99s of so long a calm and so long a trouble, the relay's share of a core, seconds to catch up."""
    calm = time.monotonic()
    time.sleep(seconds)
    begin, spent = time.monotonic(), cpu_seconds(relay)
    calm_p99 = one.ledger.p99(calm, begin)  # before who is on his way has to wait for the trouble's end
    with trouble():
        time.sleep(seconds)
        end = time.monotonic()
        busy = (cpu_seconds(relay) - spent) / (end - begin)
        p99s = (calm_p99, one.ledger.p99(begin, end))
    until(lambda: age(one.gridgov) < 1, "the backlog is gone", seconds=90)
    return *p99s, busy, time.monotonic() - end


@contextmanager
def stopped(kafka: Broker) -> Iterator[None]:
    """The broker does not run while we are in here (SIGSTOP): connections stay, nobody answers."""
    os.kill(kafka.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(kafka.pid, signal.SIGCONT)


@contextmanager
def filtered(kafka: Broker, *verdict: str) -> Iterator[None]:
    """What is sent to the broker's port meets this verdict of iptables; only in a network namespace of our own."""
    rule = ["INPUT", "-p", "tcp", "--dport", str(kafka.port), "-j", *verdict]
    subprocess.run(["iptables", "--append", *rule], check=True)
    try:
        yield
    finally:
        subprocess.run(["iptables", "--delete", *rule], check=True)


def black_holed(kafka: Broker) -> AbstractContextManager[None]:
    """Packets to the broker vanish."""
    return filtered(kafka, "DROP")


def reset(kafka: Broker) -> AbstractContextManager[None]:
    """Whoever sends to the broker is told that the connection is gone."""
    return filtered(kafka, "REJECT", "--reject-with", "tcp-reset")


def in_own_network(run: Callable[[Setting], Seen], setting: Setting) -> Seen:
    """A row on a thread with a loopback of its own, which the threads and processes it starts inherit."""

    def there() -> Seen:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return run(setting)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(there).result()


def _row(name: str, trouble: Trouble, *, seconds: float, rounds: int, needs: tuple[str, ...] = ()) -> Row:
    run = partial(unreached, trouble=trouble, seconds=seconds, rounds=rounds)
    control = partial(run, **sabotage(answers_after_kafka={}))
    return Row(
        name,
        "p99 < 2x calm or +10 ms; age < 1 s within 10 s after; in order",
        partial(in_own_network, run) if needs else run,
        partial(in_own_network, control) if needs else control,
        "the answer waits for Kafka",
        needs=needs,
    )


NETWORK = ("root", "iptables", "ip")
ROWS += [
    _row("broker frozen", stopped, seconds=20, rounds=3),
    _row("broker black-holed", black_holed, seconds=60, rounds=1, needs=NETWORK),
    _row("broker resets every connection", reset, seconds=60, rounds=1, needs=NETWORK),
]
