"""The audit log: one chain by many hands, in which whatever is cut, changed or torn shows."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry, Gauge

from service.audit.desk import MOST_SORTS, WINDOW_SECONDS, Desk
from service.audit.trail import AuditError, Event, Place, Result, Trail, What
from service.audit.verify import verify
from service.cli.main import main

DAY = 86_400.0
WRITER = """
import fcntl, sys, time
from contextlib import nullcontext, suppress
from pathlib import Path
from service.audit.trail import AuditError, Event, Result, Trail, What
if sys.argv[4:]:
    fcntl.flock = lambda *_: None
trail = Trail(Path(sys.argv[1]), keep_days=180, file_bytes=20_000)
for number in range(int(sys.argv[2])):
    with suppress(AuditError) if sys.argv[4:] else nullcontext():  # they take each other's drafts away
        trail.write(Event(int(time.time() * 1000), sys.argv[3], "-", What.KEY, Result.DONE, {"number": number}))
    print(number, flush=True)
"""


class Days:
    """A clock that is set."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def trail(directory: Path, clock: Callable[[], float] = lambda: Days.now, *, file_bytes: int = 2000) -> Trail:
    return Trail(directory / "audit", keep_days=180, file_bytes=file_bytes, clock=clock)


def event(number: int = 0, at: float = 1_700_000_000.0) -> Event:
    return Event(int(at * 1000), "somebody", "10.0.0.1", What.REQUEUE, Result.DONE, {"number": number})


def written(made: Trail, count: int = 30) -> Trail:
    for number in range(count):
        made.write(event(number))
    return made


def lines(made: Trail) -> list[dict[str, object]]:
    return [orjson.loads(line) for path in made.files() for line in path.read_bytes().splitlines()]


def test_it_tells_who_did_what_from_where_and_what_came_of_it(tmp_path: Path) -> None:
    made = trail(tmp_path / "var")
    made.write(event(7))

    [line] = lines(made)
    assert line == {
        "seq": 1,
        "at": "2023-11-14T22:13:20.000Z",
        "who": "somebody",
        "from": "10.0.0.1",
        "what": "requeue",
        "result": "done",
        "about": {"number": 7},
        "prev": "0" * 64,
    }
    assert made.files()[0].stat().st_mode & 0o777 == 0o600
    for directory in (made.directory, made.directory.parent):
        assert directory.stat().st_mode & 0o777 == 0o700


def test_files_are_rotated_and_make_one_chain(tmp_path: Path) -> None:
    made = written(trail(tmp_path))

    assert len(made.files()) > 2
    assert [line["seq"] for line in lines(made)] == list(range(1, 31))
    found = verify(made)
    assert (found.problems, found.lines, found.torn, found.last.seq) == ([], 30, 0, 30)


def cut_out(made: Trail) -> None:
    path = made.files()[1]
    first, _, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"".join(rest))


def change(made: Trail) -> None:
    path = made.files()[0]
    path.write_bytes(path.read_bytes().replace(b"10.0.0.1", b"10.0.0.2", 1))


def change_the_last(made: Trail) -> None:
    path = made.files()[-1]
    *rest, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(rest) + last.replace(b"10.0.0.1", b"10.0.0.2"))


def cut_off(made: Trail) -> None:
    path = made.files()[-1]
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def cut_off_and_go_on(made: Trail) -> None:
    cut_off(made)
    made.write(event(99))


def swap(made: Trail) -> None:
    path = made.files()[0]
    one, two, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(two + one + b"".join(rest))


def put_in(made: Trail) -> None:
    path = made.files()[0]
    one, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(one + one + b"".join(rest))


def put_in_nonsense(made: Trail) -> None:
    path = made.files()[0]
    one, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(one + b"nothing\n" + b"".join(rest))


def no_head(made: Trail) -> None:
    (made.directory / "head.json").unlink()


DAMAGE: list[Callable[[Trail], None]] = [
    cut_out,
    change,
    change_the_last,
    cut_off,
    cut_off_and_go_on,
    swap,
    put_in,
    put_in_nonsense,
    no_head,
]


def lose(which: slice) -> Callable[[Trail], None]:
    def damage(made: Trail) -> None:
        for path in made.files()[which]:
            path.unlink()

    return damage


DAMAGE += [lose(which) for which in (slice(0, 1), slice(1, 2), slice(-1, None), slice(None))]


@pytest.mark.parametrize("damage", DAMAGE)
def test_whatever_is_cut_or_changed_shows(tmp_path: Path, damage: Callable[[Trail], object]) -> None:
    made = written(trail(tmp_path))
    assert verify(made).problems == []
    damage(made)

    assert verify(made).problems != []


def test_a_log_written_all_anew_shows_by_the_line_that_was_noted_elsewhere(tmp_path: Path) -> None:
    noted = verify(written(trail(tmp_path), 5)).last
    made = written(trail(tmp_path), 5)
    assert verify(made, noted).problems == []
    forged = trail(tmp_path / "forged")
    for number in range(10):
        forged.write(event(number + 100))

    assert verify(forged).problems == []
    assert verify(forged, noted).problems != []
    assert verify(forged, Place(11, noted.sha256)).problems != []


def test_a_line_whose_writer_died_is_told_and_cuts_nothing(tmp_path: Path) -> None:
    made = written(trail(tmp_path), 3)
    with made.files()[-1].open("ab") as file:
        file.write(b'{"seq":4,"at":"20')
    assert (verify(made).torn, verify(made).problems) == (1, [])
    made.write(event(4))

    assert [
        (line["seq"], line["what"]) for line in map(orjson.loads, made.files()[0].read_bytes().splitlines()[4:])
    ] == [
        (4, "torn"),
        (5, "requeue"),
    ]
    assert (verify(made).torn, verify(made).problems) == (1, [])


def test_old_files_go_after_their_days_and_that_is_told(tmp_path: Path) -> None:
    clock = Days()
    made = trail(tmp_path, clock)
    for day in range(400):
        clock.now = Days.now + day * DAY
        made.write(event(day, clock.now))
    assert verify(made).problems == []
    kept = [line for line in lines(made) if line["what"] == "requeue"]
    assert 180 < len(kept) < 200
    assert sum(line["what"] == "pruned" for line in lines(made)) > 5
    made.files()[0].unlink()  # one too many

    assert verify(made).problems != []


def test_a_full_disk_takes_no_half_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = written(trail(tmp_path), 3)
    write = os.write

    def full(handle: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(28, "No space left on device")
        return write(handle, data[: len(data) // 2])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(AuditError, match="No space left"):
            made.write(event(4))
    assert verify(made).last.seq == 3
    made.write(event(4))

    assert (verify(made).last.seq, verify(made).torn, verify(made).problems) == (4, 0, [])


def test_a_disk_that_is_full_for_the_note_of_the_last_line_takes_no_line_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what is told to have failed would be written twice."""
    made = written(trail(tmp_path), 3)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("service.audit.trail.write_whole", full)
        with pytest.raises(AuditError, match="No space left"):
            made.write(event(4))
    made.write(event(4))

    assert [line["about"] for line in lines(made)][3:] == [{"number": 4}]
    assert verify(made).problems == []


def test_many_processes_write_one_chain_though_some_are_killed(tmp_path: Path) -> None:
    """Whatever a writer was told is written is there, in its order, whoever died meanwhile."""
    chance = random.Random(15)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "audit"), "40", f"w{number}"], stdout=subprocess.PIPE
        )
        for number in range(4)
    ]
    began = [one.stdout.readline() for one in writers if one.stdout is not None]
    for doomed in writers[:2]:
        time.sleep(chance.random() / 10)
        doomed.send_signal(signal.SIGKILL)
    told = {f"w{number}": (began[number] + one.communicate()[0]).split() for number, one in enumerate(writers)}
    made = trail(tmp_path)

    assert verify(made).problems == []
    for who, numbers in told.items():
        found = [line["about"]["number"] for line in lines(made) if line["who"] == who]  # type: ignore[index]
        assert found[: len(numbers)] == [int(number) for number in numbers]
        assert len(found) <= len(numbers) + 1
    assert [len(told[who]) for who in ("w2", "w3")] == [40, 40]


def test_without_the_lock_they_would_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "audit"), "100"]
    writers = [
        subprocess.Popen([*command, f"w{number}", "unlocked"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for number in range(4)
    ]
    for one in writers:
        one.wait()

    assert verify(trail(tmp_path)).problems != []


# ---- the web process's refusals ----


def desk(directory: Path, clock: Days) -> tuple[Desk, Trail, Gauge]:
    gauge = Gauge("unwritten", "", registry=CollectorRegistry())
    made = trail(directory, clock)
    return Desk(made, gauge, clock=clock), made, gauge


def value(gauge: Gauge) -> float:
    [metric] = gauge.collect()
    return metric.samples[0].value


def test_the_first_refusal_is_told_at_once_and_the_like_of_it_with_their_number(tmp_path: Path) -> None:
    clock = Days()
    told, made, _ = desk(tmp_path, clock)
    asked = {"REMOTE_ADDR": "10.1.1.1", "HTTP_AUTHORIZATION": f"Bearer gg_0123abcd_{'s' * 43}"}
    told.refused(401, "unauthenticated", asked)
    told.turn()
    for _ in range(500):
        told.refused(401, "unauthenticated", asked)
        told.turn()
    told.refused(403, "forbidden", {"REMOTE_ADDR": "10.1.1.2"})
    told.turn()
    clock.now += WINDOW_SECONDS
    told.turn()

    shown = [{name: line[name] for name in ("who", "from", "what", "about")} for line in lines(made)]
    until = "2023-11-14T22:13:20.000Z"
    assert shown == [
        {"who": "key 0123abcd", "from": "10.1.1.1", "what": "authentication", "about": {"reason": "unauthenticated"}},
        {"who": "-", "from": "10.1.1.2", "what": "authorisation", "about": {"reason": "forbidden"}},
        {
            "who": "key 0123abcd",
            "from": "10.1.1.1",
            "what": "authentication",
            "about": {"reason": "unauthenticated", "times": 500, "until": until},
        },
    ]
    assert b"sss" not in made.files()[0].read_bytes()


def test_however_many_knock_the_log_grows_by_so_much_a_minute_and_all_are_counted(tmp_path: Path) -> None:
    told, made, _ = desk(tmp_path, Days())
    for number in range(5000):
        told.refused(401, "unauthenticated", {"REMOTE_ADDR": f"10.1.{number // 256}.{number % 256}"})
        if number % 100 == 0:
            told.turn()
    told.turn(everything=True)

    assert len(lines(made)) <= MOST_SORTS + 2
    assert sum(line["about"].get("times", 1) for line in lines(made)) == 5000  # type: ignore[attr-defined]


def test_what_cannot_be_written_is_kept_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Days()
    told, made, gauge = desk(tmp_path, clock)
    told.refused(401, "unauthenticated", {"REMOTE_ADDR": "10.1.1.1"})

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        told.turn()
        told.refused(401, "unauthenticated", {"REMOTE_ADDR": "10.1.1.1"})
        told.turn()
        assert (told.ailment(), value(gauge)) == ("audit_unwritten", 2)
    told.turn()

    assert (told.ailment(), value(gauge)) == (None, 0)
    assert [line["about"] for line in lines(made)] == [
        {"reason": "unauthenticated", "times": 2, "until": "2023-11-14T22:13:20.000Z"}
    ]


# ---- the command line ----


@pytest.fixture
def gridgov(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    monkeypatch.setenv("GRIDGOV_DATA_DIR", str(tmp_path))

    def run(*command: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, list(command))
        return done.exit_code, done.output

    return run


def test_a_command_is_told_before_it_does_anything_and_after(
    gridgov: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    assert gridgov("keys", "add", "platform", "--role", "sender")[0] == 0
    assert gridgov("keys", "revoke", "00000000")[0] == 1
    told = lines(Trail(tmp_path / "audit", keep_days=180))

    assert [(line["what"], line["result"]) for line in told] == [
        ("key", "begun"),
        ("key", "done"),
        ("key", "begun"),
        ("key", "failed"),
    ]
    assert told[1]["about"]["command"].endswith("keys add")  # type: ignore[index]
    assert {"name": "platform", "role": "sender"}.items() <= told[1]["about"].items()  # type: ignore[attr-defined]
    assert len(told[1]["about"]["key"]) == 8  # type: ignore[index]
    assert gridgov("audit", "list", "--what", "key", "--last", "1")[1].count("\n") == 1
    status, output = gridgov("audit", "verify")
    assert (status, output.startswith("4 lines, the last is 4:")) == (0, True)
    assert gridgov("audit", "verify", "--since", output.split()[-1])[0] == 0
    cut_off(Trail(tmp_path / "audit", keep_days=180))
    assert gridgov("audit", "verify")[0] == 1


def test_what_cannot_be_told_is_not_done(gridgov: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("in the way")
    status, output = gridgov("keys", "add", "platform", "--role", "sender")

    assert (status, "nothing was done" in output) == (1, True)
    assert not (tmp_path / "keys.json").exists()
