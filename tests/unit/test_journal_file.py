"""The journal as a file: restarts, damage, a full disk, other processes, and where it must not live."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from service.journal.journal import SqliteJournal
from service.journal.sqlite import JournalCorrupt, mapped, unfit
from service.journal.upkeep import _OLDEST
from service.ports import Delivery, JournalBroken, JournalError, JournalFull, JournalUnavailable, ParkReason, Totals
from tests.gridgov import until
from tests.unit.messages import NOW, message
from tests.unit.test_journal import LIMIT, append, behind_our_back, everything, settle

ROOT = Path(__file__).parents[2]


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    first = SqliteJournal(tmp_path, limit=LIMIT)
    append(first, message("r-1"), message("r-2"), message("r-3"))
    settle(first, 1)
    first.park(2, ParkReason.RECORD_REFUSED, "why", NOW)
    before = (first.journal_id, first.totals(), first.parked(), everything(first))
    first.close()

    second = SqliteJournal(tmp_path, limit=LIMIT)

    assert (second.journal_id, second.totals(), second.parked(), everything(second)) == before
    second.close()


def test_each_journal_has_an_id_of_its_own(tmp_path: Path) -> None:
    journals = [SqliteJournal(tmp_path / name, limit=LIMIT, flush=False) for name in ("one", "two")]

    assert len({journal.journal_id for journal in journals}) == 2
    for journal in journals:
        journal.close()


def test_nobody_else_may_read_the_files(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        journal = SqliteJournal(tmp_path / "var", limit=LIMIT)
        append(journal, message())
        found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "var").iterdir()}
        journal.close()
    finally:
        os.umask(mask)

    assert stat.S_IMODE((tmp_path / "var").stat().st_mode) == 0o700
    assert found == {f"journal.{end}": 0o600 for end in ("lock", "sqlite3", "sqlite3-wal", "sqlite3-shm")}


@pytest.mark.parametrize(("flush", "synchronous"), [(True, 2), (False, 1)])
def test_a_journal_that_answers_flushes_every_commit(tmp_path: Path, flush: bool, synchronous: int) -> None:
    """2 is FULL: the commit returns after the disk has the log; 1 is NORMAL: it may lose the last ones."""
    journal = SqliteJournal(tmp_path, limit=LIMIT, flush=flush)

    assert journal._store._db.pragma("synchronous") == synchronous
    assert journal._store._db.pragma("journal_mode") == "wal"
    assert journal._store._db.pragma("secure_delete") == 2  # FAST: a page that becomes free is not written once more
    journal.close()


@pytest.mark.parametrize("attended", [True, False])
def test_the_log_begins_anew_where_somebody_copies_it(tmp_path: Path, attended: bool) -> None:
    journal = SqliteJournal(tmp_path, limit=1 << 30, flush=False)
    wal = tmp_path / "journal.sqlite3-wal"
    append(journal, message("first", value=b"v" * 100_000))
    begun = wal.stat().st_size

    for number in range(20):
        append(journal, message(f"r-{number}", value=b"v" * 100_000))
        if attended:
            journal.checkpoint()

    assert (wal.stat().st_size <= 2 * begun) is attended
    assert len(everything(journal)) == 21
    journal.close()


def test_most_is_flushed_before_everybody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, journal = (SqliteJournal(tmp_path, limit=1 << 24) for _ in "12")
    other.close()
    append(journal, *[message(f"r-{number}", value=b"v" * 100_000) for number in range(20)])
    flushed = list[Path]()

    def flush(handle: int) -> None:
        with (tmp_path / "journal.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody is kept from writing
        flushed.append(Path(f"/proc/self/fd/{handle}").readlink())

    monkeypatch.setattr(os, "fdatasync", flush)
    journal.checkpoint()

    assert flushed == [tmp_path / "journal.sqlite3"]
    journal.close()


def test_a_file_that_cannot_be_flushed_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = SqliteJournal(tmp_path, limit=1 << 24)
    append(journal, *[message(f"r-{number}", value=b"v" * 100_000) for number in range(20)])

    def failing(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", failing)
    with pytest.raises(JournalBroken, match="flushing"):
        journal.checkpoint()
    journal.close()


# ---- damage ----


@pytest.mark.parametrize("garbage", [b"this is no database " * 500, b"\x00" * 100])
def test_a_file_that_is_no_database_is_broken(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "journal.sqlite3").write_bytes(garbage)

    with pytest.raises(JournalBroken):
        SqliteJournal(tmp_path, limit=LIMIT)


def damaged(directory: Path, first_page: int, pages: int) -> SqliteJournal:
    """A journal of fifty messages, some of whose pages were overwritten while nobody had it open."""
    journal = SqliteJournal(directory, limit=LIMIT, flush=False)
    append(journal, *[message(f"r-{n}", value=b"v" * 3_000) for n in range(50)])
    journal.check()
    journal.close()
    with (directory / "journal.sqlite3").open("r+b") as file:
        file.seek(first_page * 4096)
        file.write(b"\xff" * 4096 * pages)
    return SqliteJournal(directory, limit=LIMIT, flush=False)


def test_a_damaged_page_is_found_by_the_check(tmp_path: Path) -> None:
    journal = damaged(tmp_path, 20, 10)

    with pytest.raises(JournalBroken):
        journal.check()
    journal.close()


def test_damage_met_on_the_way_is_broken_too(tmp_path: Path) -> None:
    journal = damaged(tmp_path, 15, 40)

    with pytest.raises(JournalBroken):
        everything(journal)
    journal.close()


def test_a_journal_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    SqliteJournal(tmp_path, limit=LIMIT).close()
    behind_our_back(tmp_path, "PRAGMA user_version=99")

    with pytest.raises(JournalBroken, match="99"):
        SqliteJournal(tmp_path, limit=LIMIT)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (apsw.FullError("disk"), JournalFull),
        (apsw.BusyError("wait"), JournalUnavailable),
        (apsw.LockedError("wait"), JournalUnavailable),
        (apsw.IOError("flush"), JournalBroken),
        (apsw.CorruptError("page"), JournalCorrupt),
        (apsw.NotADBError("header"), JournalCorrupt),
        (apsw.ReadOnlyError("mount"), JournalBroken),
        (apsw.CantOpenError("log"), JournalBroken),
    ],
)
def test_what_sqlites_errors_mean(error: apsw.Error, ours: type[Exception]) -> None:
    assert type(mapped(error)) is ours


def test_a_disk_without_room_is_full_not_broken_and_leaves_nothing_behind(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path, limit=LIMIT, flush=False)
    append(journal, message("r-0"))
    db = journal._store._db
    db.pragma("max_page_count", db.pragma("page_count"))  # SQLite then answers as it does on a full disk

    answers = journal.append([[message("r-1")], [message("r-2", value=b"v" * 100_000)], [message("r-0")]])

    assert [type(answer) for answer in answers] == [JournalFull, JournalFull, list]  # a repeat is answered all the same

    assert journal.totals() == Totals(accepted=1, settled=0, pending=1, parked=0, mismatch=0)
    db.pragma("max_page_count", 1_000_000)
    append(journal, message("r-2", value=b"v" * 100_000))
    assert [one.report_id for one in everything(journal)] == ["r-0", "r-2"]
    journal.close()


# ---- who else writes ----

APPEND_MANY = """
import sys
from pathlib import Path
from service.journal.journal import SqliteJournal
from tests.unit.messages import message
journal = SqliteJournal(Path(sys.argv[1]), limit=1 << 24, flush=False)
print("ready", flush=True)
sys.stdin.readline()
for number in range(300):
    journal.append([[message(f"theirs-{number}", sender="them"), message(f"shared-{number}")]])
"""


def test_two_processes_append_at_the_same_time(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path, limit=LIMIT, flush=False)
    command = [sys.executable, "-c", APPEND_MANY, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "ready\n"
        other.stdin.write("go\n")
        other.stdin.flush()
        for number in range(300):
            append(journal, message(f"ours-{number}", sender="us"), message(f"shared-{number}"))
    assert other.returncode == 0

    found = everything(journal)

    wanted = {f"{name}-{number}" for name in ("theirs", "ours", "shared") for number in range(300)}
    assert len(found) == 900
    assert {one.report_id for one in found} == wanted
    assert [one.seq for one in found] == list(range(1, 901))
    assert journal.totals() == Totals(accepted=900, settled=0, pending=900, parked=0, mismatch=0)
    journal.close()


CREATE = """
import sys
from pathlib import Path
from service.journal.journal import SqliteJournal
sys.stdin.readline()
print(SqliteJournal(Path(sys.argv[1]), limit=1 << 24).journal_id)
"""


def test_processes_that_make_the_journal_at_the_same_time_share_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CREATE, str(tmp_path / "var")]
    started = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    outputs = [process.communicate("go\n")[0] for process in started]

    assert [process.returncode for process in started] == [0, 0, 0]
    assert len(set(outputs)) == 1


# ---- where it may live ----


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make the kernel's table say of what kind the file system of `tmp_path` is."""
    device = tmp_path.stat().st_dev
    real = Path.read_text

    def as_kind(kind: str) -> None:
        told = (
            b"22 27 0:0 / /proc rw,relatime - proc proc rw\n"
            b"28 27 0:99 / /media/caf\xe9\xe2\x80\xa8stick rw,relatime - vfat source rw\n"  # a place of any name
            b"27 1 %d:%d / / rw,relatime shared:1 - %b source rw\n"
        ) % (os.major(device), os.minor(device), kind.encode())

        def read(path: Path, **how: str) -> str:
            return told.decode(**how) if path.name == "mountinfo" else real(path, **how)

        monkeypatch.setattr(Path, "read_text", read)

    return as_kind


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "fuse.sshfs", "fuse", "tmpfs", "ramfs", "overlay"])
def test_a_file_system_that_forgets_or_cannot_lock_is_unfit(
    tmp_path: Path, mounted: Callable[[str], None], kind: str
) -> None:
    mounted(kind)

    assert kind in (unfit(tmp_path / "not" / "yet" / "made") or "")


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs"])
def test_a_local_disk_is_fit(tmp_path: Path, mounted: Callable[[str], None], kind: str) -> None:
    mounted(kind)

    assert unfit(tmp_path / "var") is None


def test_a_real_tmpfs_is_unfit() -> None:
    assert "tmpfs" in (unfit(Path("/dev/shm/gridgov")) or "")


def test_opening_it_once_more_leaves_the_locks_of_the_first(tmp_path: Path) -> None:
    """POSIX locks of a process end with any handle of the file that it closes; SQLite relies on them."""
    first = SqliteJournal(tmp_path, limit=LIMIT, flush=False)
    held = _locks(tmp_path / "journal.sqlite3")
    assert held

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.journal.sqlite._connect", _refused)
        with pytest.raises(JournalError):
            SqliteJournal(tmp_path, limit=LIMIT, flush=False)

    # The kernel's list is not read at one moment: a lock may be missing in it while others, of anybody, come and go.
    until(lambda: _locks(tmp_path / "journal.sqlite3") == held, "the locks are as before", seconds=5)
    first.close()


def _refused(*_: object, **__: object) -> Any:
    raise JournalUnavailable("not now")


def _locks(path: Path) -> list[str]:
    """The POSIX locks on a file, as the kernel lists them."""
    inode = f":{path.stat().st_ino} "
    lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    return sorted(" ".join(line.split()[1:]) for line in lines if inode in line and "POSIX" in line)


def test_what_is_written_after_it_was_moved_away_is_not_promised(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path, limit=LIMIT, flush=False)
    append(journal, message("r-1"))
    (tmp_path / "journal.sqlite3").rename(tmp_path / "elsewhere.sqlite3")

    with pytest.raises(JournalBroken, match="another file"):
        append(journal, message("r-2"))
    with pytest.raises(JournalBroken, match="another file"):
        journal.probe()
    journal.close()


def test_how_full_it_is_does_not_read_what_waits_for_the_cases(tmp_path: Path) -> None:
    """Settled rows pile up while the cases stand still; the oldest pending one is found by its index."""
    journal = SqliteJournal(tmp_path, limit=LIMIT, flush=False)
    append(journal, *[message(f"r-{n}", received_at=NOW + n) for n in range(300)])
    journal.hand_over({}, [Delivery(seq, 0, seq, NOW) for seq in range(1, 300)], folded=0)
    plan = journal._store.read(f"EXPLAIN QUERY PLAN SELECT received_at FROM messages WHERE seq=({_OLDEST})")

    assert journal.fill().oldest == NOW + 299
    steps = [detail for *_, detail in plan if "messages" in detail]
    assert steps
    assert [step for step in steps if "INDEX" not in step and "PRIMARY KEY" not in step] == []
    journal.close()
