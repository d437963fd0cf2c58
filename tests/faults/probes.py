"""What the rows about disks, networks and clocks ask of a running gridgov, and their broker."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

from tests.broker import Broker
from tests.faults.rows import Seen, Setting
from tests.faults.trial import Finding, Trial, flowing, trial
from tests.gridgov import Gridgov
from tests.system.checker import Verdict


class _Lasting(Broker):
    """A broker that outlives a row: starting Java twenty times would take longer than the rows."""

    def kill(self) -> None:
        """Left to run; `stop` is for whoever wants it down."""


def lasting_broker() -> Broker:
    """One broker for all rows of this thread that do not hurt its data; `trial` starts it when a row has stopped it.

    Not for those of another: a row may stop it while another row, tried at the same time, reads what it holds.
    """
    return _of_thread(threading.get_ident())


@cache
def _of_thread(_: int) -> Broker:
    directory = Path(tempfile.mkdtemp(prefix="gridgov-faults-kafka-"))
    broker = _Lasting(directory)
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    atexit.register(broker.stop)  # registered last, runs first
    return broker


@contextmanager
def on_lasting_broker(setting: Setting, **env: str) -> Iterator[tuple[Trial, Broker]]:
    """A trial, its broker, and ids that no other row on that broker has used."""
    broker = lasting_broker()
    with trial(setting, broker, **env) as one:
        yield replace(one, prefix=f"f{uuid.uuid4().hex[:8]}"), broker


def readiness(gridgov: Gridgov) -> tuple[int, list[str]]:
    """Status and reasons of /readyz on the web's own port. OSError or HTTPError: nobody answers."""
    answer = gridgov.http.request("GET", f"http://127.0.0.1:{gridgov.web_metrics}/readyz")
    return answer.status, answer.json()["reasons"]


def pending(gridgov: Gridgov) -> int:
    """Messages accepted and not yet in Kafka."""
    return int(gridgov.metrics()["gridgov_journal_pending_messages"])


def restarts(gridgov: Gridgov) -> int:
    """How often `gridgov run` or the web server had to start a process again."""
    return gridgov.log.count("ended, starting again") + gridgov.log.count("Unexpected exit from worker")


def flowing_from_start(gridgov: Gridgov) -> None:
    """Start `gridgov run` and wait until reports reach Kafka."""
    gridgov.start()
    flowing(gridgov)


def unsabotaged(gridgov: Gridgov) -> None:
    """Start it again as it is meant to be."""
    gridgov.stop()
    gridgov.env = {name: value for name, value in gridgov.env.items() if name not in ("SABOTAGE", "PYTHONPATH")}
    gridgov.start()


def repeated(one: Trial, most: int = 200) -> list[str]:
    """Post what was promised once more: what is wrong with the answers."""
    sent, promised = one.ledger.read()
    problems = []
    for report_id in list(promised)[:most]:
        status, receipt, _ = one.gridgov.post(sent[report_id])
        same = all(receipt.get(key) == promised[report_id][0][key] for key in ("received_at", "topic", "case_id"))
        if status != 202 or not receipt["duplicate"] or not same:
            problems.append(f"{report_id}: {status} {receipt} to a repeat of {promised[report_id][0]}")
    return problems


def missing(verdict: Verdict) -> set[str]:
    """The reports that were promised and are not in Kafka."""
    return {one.partition(":")[0] for one in verdict.problems if one.endswith("promised and missing")}


def unflushed_attempts_excused(found: Finding) -> Finding:
    """The relay counts attempts without flushing: when power goes, a second copy may say that it is the first.

    Consumers do not need the number: they go by `journal-seq`, which the checker still holds to them.
    """
    problems = [one for one in found.verdict.problems if not one.endswith("a second copy under the same attempt")]
    return replace(found, verdict=replace(found.verdict, problems=problems))


def told(problems: list[str], met: bool, figures: str) -> Seen:
    """The result of a row: without problems, and as demanded."""
    for problem in problems[:5]:
        print(f"    {problem}"[:400], flush=True)
    return Seen(met and not problems, figures)


def pause(seconds: float) -> None:
    """Let what was started go on for a while."""
    threading.Event().wait(seconds)
