"""One relay leads; it tells the others that it lives, and keeps the house."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import apsw
import orjson
import pytest
from prometheus_client import CollectorRegistry

from service.journal.ballast import Ballast
from service.journal.journal import SqliteJournal
from service.metrics import relay_metrics
from service.ports import JournalBroken, JournalFull, JournalUnavailable, PauseReason
from service.relay import chores as module
from service.relay import leadership
from service.relay.chores import Chores
from service.relay.leadership import Leadership
from service.relay.pulse import PULSELESS_SECONDS, Listener, Pulse
from tests.unit.fake_publisher import FakeKafka
from tests.unit.messages import NOW, message
from tests.unit.test_journal import append, behind_our_back, settle

ROOT = Path(__file__).parents[2]
PATIENCE = 20.0


class Told:
    """A relay's metrics, to be read."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.metrics = relay_metrics(self._registry, ["topic-a"])

    def __getitem__(self, name: str) -> float | None:
        return self._registry.get_sample_value(name)


# ---- who leads ----

LEAD = """
import signal, sys, threading
from pathlib import Path
from prometheus_client import Gauge
from service.relay.leadership import Leadership
print(Leadership(Path(sys.argv[1]), Gauge("leader", "who leads", registry=None)).wait(threading.Event()), flush=True)
signal.pause()
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that leads in `tmp_path`."""
    command = [sys.executable, "-c", LEAD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leadership, "STANDBY_SECONDS", 0.001)


def test_the_first_to_come_leads(tmp_path: Path) -> None:
    told = Told()
    leadership = Leadership(tmp_path / "var", told.metrics.leader)
    assert (leadership.leading, told["gridgov_relay_leader"]) == (False, 0)

    assert leadership.wait(threading.Event())

    assert (leadership.leading, told["gridgov_relay_leader"]) == (True, 1)


def test_a_standby_leads_as_soon_as_the_leader_was_killed(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    told = Told()
    leadership = Leadership(tmp_path, told.metrics.leader)
    standby = threading.Thread(target=leadership.wait, args=[threading.Event()])
    standby.start()
    assert not leadership.leading
    assert told["gridgov_relay_leader"] == 0

    other.kill()

    standby.join(PATIENCE)
    assert (leadership.leading, told["gridgov_relay_leader"]) == (True, 1)


def test_a_standby_asked_to_stop_never_led(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    leadership, stop = Leadership(tmp_path, Told().metrics.leader), threading.Event()
    answers: list[bool] = []
    standby = threading.Thread(target=lambda: answers.append(leadership.wait(stop)))
    standby.start()

    stop.set()

    standby.join(PATIENCE)
    assert answers == [False]
    assert not leadership.leading


def test_a_child_process_does_not_keep_the_lock(tmp_path: Path) -> None:
    """The descriptor is closed on exec: a program the leader started must not lead in its place."""
    leadership = Leadership(tmp_path, Told().metrics.leader)
    leadership.wait(threading.Event())

    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False) as child:
        os.close(leadership._fd)
        assert Leadership(tmp_path, Told().metrics.leader).wait(threading.Event())
        child.kill()


# ---- what a leader does beside publishing ----


class House:
    """Chores on a real journal, with time that only a test moves."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory, self.told, self.cluster = directory, Told(), FakeKafka()
        self.now = 5_000.0
        self.paused: dict[str, PauseReason] = {}
        self.served: set[str] = set()
        self.journal = SqliteJournal(directory, limit=1 << 24, flush=False)
        self.ballast = Ballast(directory)
        self.ballast.size = 4096
        self.chores = Chores(
            self.journal,
            Pulse(directory, self),
            self.cluster,
            self.told.metrics,
            paused=lambda: self.paused,
            serve=[self.served.update],
            relieve=self.ballast.release,
            restore=self.ballast.restore,
            dedupe_days=1,
            clock=self,
        )

    def time(self) -> float:
        return NOW / 1000 + self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.now += seconds

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.chores()

    @property
    def wal(self) -> int:
        return (self.directory / "journal.sqlite3-wal").stat().st_size

    @property
    def pulse(self) -> dict[str, object]:
        found: dict[str, object] = orjson.loads((self.directory / "relay.json").read_bytes())
        return found


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    with monkeypatch.context() as patch:
        made = House(tmp_path, patch)
        yield made
        made.journal.close()


def test_the_pulse_says_how_the_relay_fares(house: House) -> None:
    house.paused = {"topic-a": PauseReason.UNAUTHORISED}

    house.later(0)

    assert house.pulse == {
        "at": NOW + 5_000_000,
        "pid": os.getpid(),
        "connected": True,
        "paused": {"topic-a": "unauthorised"},
    }


def test_the_pulse_is_written_once_a_second_at_most(house: House) -> None:
    house.later(0)
    house.later(0.5)
    first = house.pulse["at"]
    house.cluster.reachable = False
    house.later(0.6)

    assert (first, house.pulse["at"]) == (NOW + 5_000_000, NOW + 5_001_100)
    assert house.pulse["connected"] is False


def test_the_ledger_is_compared_now_and_then(house: House) -> None:
    append(house.journal, message("r-1"), message("r-2"))
    house.later(0)
    assert house.told["gridgov_journal_ledger_mismatch"] == 0

    behind_our_back(house.directory, "DELETE FROM messages WHERE seq=1")
    house.later(1)
    assert house.told["gridgov_journal_ledger_mismatch"] == 0
    house.later(module.LEDGER_SECONDS)

    assert house.told["gridgov_journal_ledger_mismatch"] == 1


def test_topics_that_something_is_pending_for_are_served(house: House) -> None:
    append(house.journal, message("r-1", topic="topic-of-an-old-catalogue"))

    house.later(module.LEDGER_SECONDS)

    assert house.served == {"topic-of-an-old-catalogue"}


def test_receipts_older_than_the_dedupe_days_go(house: House) -> None:
    append(house.journal, message("old"), message("pending"))
    settle(house.journal, 1)
    house.later(0)
    assert house.journal.receipt("platform", "old") is not None

    house.later(2 * 86_400)

    assert house.journal.receipt("platform", "old") is None
    assert house.journal.receipt("platform", "pending") is not None


def test_a_journal_that_cannot_be_written_puts_the_chores_off(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(before: int, limit: int = 500) -> int:
        raise JournalUnavailable("locked")

    monkeypatch.setattr(house.journal, "forget", locked)

    house.later(module.TIDY_SECONDS)

    assert house.pulse["pid"] == os.getpid()


@pytest.mark.parametrize(("free", "gives"), [(8192, True), (1 << 40, False)])
def test_where_room_is_short_the_journal_keeps_no_free_pages(
    house: House, monkeypatch: pytest.MonkeyPatch, free: int, gives: bool
) -> None:
    append(house.journal, *[message(f"r-{n}", value=b"v" * 3_000) for n in range(400)])
    house.later(0)
    before = (house.directory / "journal.sqlite3").stat().st_size
    settle(house.journal, *range(2, 401))  # one stays pending: it is never idle
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free, total=1 << 30))

    for _ in range(5):
        house.later(module.CHECKPOINT_SECONDS)

    after = (house.directory / "journal.sqlite3").stat().st_size
    assert (after < before / 4) is gives
    assert house.journal.totals().mismatch == 0


def test_nothing_is_given_back_while_somebody_reads_on_and_on(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is moved goes through the WAL, which cannot be emptied then: it would fill the disk."""
    file = house.directory / "journal.sqlite3"
    append(house.journal, *[message(f"r-{n}", value=b"v" * 3_000) for n in range(400)])
    settle(house.journal, *range(1, 401))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=8192, total=1 << 30))
    with closing(apsw.Connection(str(file))) as backup:
        backup.execute("BEGIN")
        backup.execute("SELECT COUNT(*) FROM meta").fetchone()
        house.later(0)
        before = (file.stat().st_size, house.wal)
        house.later(module.CHECKPOINT_SECONDS)
        assert (file.stat().st_size, house.wal) == before
    house.later(module.CHECKPOINT_SECONDS)

    assert (file.stat().st_size < before[0], house.wal) == (True, 0)


def test_chores_that_meet_a_full_disk_release_the_ballast(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.later(module.TIDY_SECONDS)
    assert (house.directory / "ballast").exists()

    def full() -> None:
        raise JournalFull("disk full")

    monkeypatch.setattr(house.journal, "checkpoint", full)
    house.later(module.CHECKPOINT_SECONDS)

    assert not (house.directory / "ballast").exists()


def test_another_file_in_the_journals_place_ends_the_relay(house: House) -> None:
    house.later(0)
    (house.directory / "journal.sqlite3").rename(house.directory / "aside")
    (house.directory / "journal.sqlite3").touch()

    with pytest.raises(JournalBroken):
        house.later(0)


# ---- whether it lives ----


def test_a_pulse_that_stops_is_heard_by_a_clock_that_nobody_sets(house: House) -> None:
    listener = Listener(house.directory, house)
    assert not listener.pulseless()  # there never was one
    house.chores()
    for _ in range(20):
        house.later(5)
        assert not listener.pulseless()
        stamp = (house.directory / "relay.json").stat().st_mtime
        os.utime(house.directory / "relay.json", (stamp - 90_000, stamp - 90_000))  # the time of day steps by a day
        assert not listener.pulseless()
    house.now += PULSELESS_SECONDS + 1

    assert listener.pulseless()
    house.later(0)
    assert not listener.pulseless()
