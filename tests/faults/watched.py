"""What the rows about a PostgreSQL that is ill ask of a gridgov beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.faults.probes import pause, readiness, repeated, told
from tests.faults.rows import Seen
from tests.faults.trial import Trial, relay_sample
from tests.gridgov import Gridgov, report, until
from tests.postgresql import Postgresql
from tests.system.checker import Json
from tests.system.clients import Clients

PROMISED_SECONDS = 13.0  # a post is answered after 10 s, whatever the server does; the rest is for a busy machine
BACK_SECONDS = 10.0  # from the moment the server is well until gridgov is
AWAY = "journal_unavailable"


@contextmanager
def server(**settings: str) -> Iterator[Postgresql]:
    """A PostgreSQL of the row's own, running."""
    one = Postgresql(settings=settings)
    try:
        one.start()
        yield one
    finally:
        one.remove()


def well(gridgov: Gridgov) -> bool:
    """Whether it accepts, and somebody publishes."""
    return readiness(gridgov) == (200, [])


def leads(gridgov: Gridgov) -> bool:
    return relay_sample(gridgov, "gridgov_relay_leader") == 1


def alive(gridgov: Gridgov, port: int) -> bool:
    return bool(gridgov.http.request("GET", f"http://127.0.0.1:{port}/livez").status == 200)


class Watched:
    """A gridgov at a server that is made ill: what is wrong with its answers, and how soon it is well again."""

    def __init__(self, one: Trial) -> None:
        self.one, self.wrong, self.back = one, list[str](), list[float]()
        self._refused: list[Json] = []

    def turned_away(self, code: str = AWAY) -> None:
        """Nothing can be accepted now: it says so, and why; nobody would be helped by a restart of it."""
        run = self.one.gridgov
        until(lambda: readiness(run) == (503, [code]), f"/readyz tells {code}", seconds=PROMISED_SECONDS * 3)
        made = report("", report_id=f"{self.one.prefix}-away-{len(self._refused)}", case_id=f"away{len(self._refused)}")
        self.one.ledger.sent(made)
        self._refused.append(made)
        began = time.monotonic()
        status, body, headers = run.post(made)
        if status == 202:
            self.one.ledger.accepted(body)
        self._unless(time.monotonic() - began < PROMISED_SECONDS, f"answered after {time.monotonic() - began:.1f} s")
        told_ = (status, body.get("code"), headers.get("Retry-After", "").isdigit())
        self._unless(told_ == (503, code, True), f"a new report: {told_}")
        self._unless(readiness(run) == (503, [code]), f"/readyz: {readiness(run)}")
        self._unless(alive(run, run.web_metrics), "/livez of web")
        until(lambda: alive(run, run.relay_metrics), "/livez of the relay")

    def well_again(self, mend: Callable[[], object] = lambda: None, *, leading: bool = True) -> None:
        """From when it is mended, until it also leads again where it was `leading`."""
        mend()
        began, run = time.monotonic(), self.one.gridgov
        until(lambda: well(run) and (leads(run) or not leading), "all is well", seconds=9 * BACK_SECONDS)
        self.back.append(time.monotonic() - began)

    def answered_at_last(self) -> None:
        """Whoever was refused posts it again, and has his receipt."""
        for made in self._refused:
            status, receipt, _ = self.one.gridgov.post(made)
            self._unless(status == 202, f"{made['report_id']}: {status} when all is well")
            if status == 202:
                self.one.ledger.accepted(receipt)

    def _unless(self, good: bool, problem: str) -> None:
        if not good:
            self.wrong.append(problem)

    def seen(self, figures: str, *, breaks: int, met: bool = True) -> Seen:
        """Once nothing is pending."""
        self.wrong += repeated(self.one, most=50)
        found = self.one.judged(breaks=breaks)
        soon = max(self.back) < BACK_SECONDS
        back = ", ".join(f"{seconds:.1f}" for seconds in self.back)
        return told(self.wrong, found.met and soon and met, f"{figures}well again after {back} s; {found.figures}")


def more(clients: Clients, count: int = 100) -> None:
    """Wait for so many more answers."""
    before = clients.answered
    until(lambda: clients.answered >= before + count, "posts flow", seconds=90)


def accepted_meanwhile(clients: Clients, seconds: float = 1.0) -> int:
    before = clients.answered
    pause(seconds)
    return clients.answered - before
