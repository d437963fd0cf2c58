"""`keep`: children that end are started again, one that keeps ending ends everything, and nobody is orphaned."""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import processes as module
from service.processes import Child, GaveUp, keep
from tests.gridgov import until

ROOT = Path(__file__).parents[2]

# A child notes that it was started, in order; then it does as told.
NOTE = "import os, signal, sys, time; open(sys.argv[1], 'a').write(sys.argv[2] + chr(10)); "
END = NOTE + "sys.exit(3)"
STAY = NOTE + "signal.pause()"
STOP_ALL = NOTE + "os.kill(os.getppid(), signal.SIGTERM); signal.pause()"
END_THEN_STOP_ALL = (
    NOTE + "started = open(sys.argv[1]).read().split(); "
    "sys.exit(3) if started.count(sys.argv[2]) < 4 else os.kill(os.getppid(), signal.SIGTERM); signal.pause()"
)
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + STAY


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_SECONDS", (0.001, 0.002, 0.003, 0.004, 0.005))
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """`keep` takes over the signals of its process; here that is the tests'."""
    kept = {sign: signal.getsignal(sign) for sign in (signal.SIGTERM, signal.SIGINT)}
    yield
    for sign, handler in kept.items():
        signal.signal(sign, handler)


class Notes:
    """What the children noted."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def child(self, name: str, code: str, *, essential: bool = True) -> Child:
        return Child(name, [sys.executable, "-S", "-c", code, str(self._path), name], essential)

    @property
    def started(self) -> list[str]:
        return self._path.read_text().split() if self._path.exists() else []


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    return Notes(tmp_path / "notes")


def test_a_child_that_ends_is_started_again(notes: Notes) -> None:
    child = notes.child("flaky", END_THEN_STOP_ALL)

    keep([child])

    assert notes.started == ["flaky"] * 4
    assert child.failures == 3


def test_it_waits_longer_each_time(notes: Notes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="service.processes"), pytest.raises(GaveUp):
        keep([notes.child("hopeless", END)])

    ours = [record.__dict__ for record in caplog.records if record.name == "service.processes"]
    told = [(record["exit_code"], record["seconds"]) for record in ours]
    assert told == [(3, wait) for wait in module.BACKOFF_SECONDS]


def test_a_child_that_keeps_ending_ends_everything(notes: Notes) -> None:
    healthy = notes.child("healthy", STAY)

    with pytest.raises(GaveUp, match="hopeless ended 6 times in a row, last with exit code 3"):
        keep([healthy, notes.child("hopeless", END)])

    assert notes.started.count("hopeless") == 6
    assert notes.started.count("healthy") == 1
    assert healthy.process is not None
    assert healthy.process.returncode == -signal.SIGTERM


def test_a_child_that_lived_long_enough_starts_with_a_clean_record(
    notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEALTHY_SECONDS", -1)  # however short it lived
    code = NOTE + (
        "started = open(sys.argv[1]).read().split(); "
        "sys.exit(3) if len(started) < 12 else os.kill(os.getppid(), signal.SIGTERM); signal.pause()"
    )

    keep([notes.child("often", code)])

    assert len(notes.started) == 12


def test_one_that_is_not_essential_may_keep_ending(notes: Notes) -> None:
    code = NOTE + (
        "started = open(sys.argv[1]).read().split(); "
        "sys.exit(3) if len(started) < 12 else os.kill(os.getppid(), signal.SIGTERM); signal.pause()"
    )

    keep([notes.child("extra", code, essential=False)])

    assert len(notes.started) == 12


def test_asked_to_stop_it_stops_its_children_in_order(notes: Notes) -> None:
    farewell = NOTE.replace("sys.argv[2] +", "sys.argv[2] +") + (
        "signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1], 'a').write('bye-' + sys.argv[2] + chr(10)), "
        "sys.exit(0))); "
    )
    last = farewell + (
        "exec('while len(open(sys.argv[1]).read().split()) < 3: time.sleep(0.001)'); "
        "os.kill(os.getppid(), signal.SIGTERM); signal.pause()"
    )
    children = [notes.child("one", farewell + "signal.pause()"), notes.child("two", farewell + "signal.pause()")]

    keep([*children, notes.child("three", last)])

    assert sorted(notes.started[:3]) == ["one", "three", "two"]
    assert notes.started[3:] == ["bye-one", "bye-two", "bye-three"]
    assert [child.process and child.process.returncode for child in children] == [0, 0]


def test_a_child_that_will_not_stop_is_killed(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.01)
    stubborn = notes.child("stubborn", STUBBORN)
    wait = "exec('while len(open(sys.argv[1]).read().split()) < 2: time.sleep(0.001)'); "

    keep([stubborn, notes.child("caller", NOTE + wait + "os.kill(os.getppid(), signal.SIGTERM); signal.pause()")])

    assert stubborn.process is not None
    assert stubborn.process.returncode == -signal.SIGKILL


def test_a_child_that_hangs_is_killed_and_started_again(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEALTHY_SECONDS", -1)
    hanging = notes.child("hanging", STAY)
    verdicts = iter([True])
    hanging.hangs = lambda: "hanging" in notes.started and next(verdicts, False)
    wait = "exec('while len(open(sys.argv[1]).read().split()) < 3: time.sleep(0.001)'); "

    keep([hanging, notes.child("caller", NOTE + wait + "os.kill(os.getppid(), signal.SIGTERM); signal.pause()")])

    assert sorted(notes.started) == ["caller", "hanging", "hanging"]


KEEP_TWO = """
import sys
from service.processes import Child, keep
code = "import os, signal, sys; open(sys.argv[1], 'a').write(str(os.getpid()) + chr(10)); signal.pause()"
keep([Child(name, [sys.executable, "-S", "-c", code, sys.argv[1]]) for name in ("one", "two")])
"""


def test_a_killed_parent_leaves_no_orphan(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "pids")
    with subprocess.Popen([sys.executable, "-c", KEEP_TWO, str(tmp_path / "pids")], cwd=ROOT) as parent:
        until(lambda: len(notes.started) == 2, "both children run")
        children = [os.pidfd_open(int(pid)) for pid in notes.started]

        parent.kill()

    for child in children:
        ended, _, _ = select.select([child], [], [], 20)
        os.close(child)
        assert ended


ORPHAN = """
import os, signal, sys
from service.processes import die_with_parent
parent = os.getpid()
if os.fork():
    os._exit(0)
read, write = os.pipe()
while os.getppid() == parent:
    pass
die_with_parent(signal.SIGKILL, parent=parent)
print("alive", flush=True)
"""


def test_a_child_whose_parent_died_before_it_could_ask_ends_too() -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHAN], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        said, _ = process.communicate(timeout=20)

    assert said == ""


def test_a_command_that_cannot_be_started_is_told_by_name(notes: Notes) -> None:
    healthy = notes.child("healthy", STAY)

    with pytest.raises(GaveUp, match="misspelt"):
        keep([healthy, Child("misspelt", ["/no/such/program"])])

    assert healthy.process is not None
    assert healthy.process.poll() is not None
