"""What systemd hears of a process: that it is ready and, only as long as it works, that it does."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import watchdog

MICROSECONDS = "30000"  # a word each 10 ms


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hears:
        hears.bind(str(tmp_path / "notify"))
        hears.settimeout(20)
        yield hears


def test_who_works_says_so_again_and_again(systemd: socket.socket) -> None:
    watchdog.tell({"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": MICROSECONDS}, lambda: True)
    assert [systemd.recv(99) for _ in range(4)] == [b"READY=1", *[b"WATCHDOG=1"] * 3]


def test_who_hangs_says_nothing_more(systemd: socket.socket) -> None:
    answers = iter([True, False, False, True])
    asked = []

    def alive() -> bool:
        asked.append(next(answers, True))
        return asked[-1]

    watchdog.tell({"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": MICROSECONDS}, alive)
    assert [systemd.recv(99) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
    assert asked[:4] == [True, False, False, True]


def test_who_is_not_all_there_yet_is_not_ready(systemd: socket.socket) -> None:
    answers = iter([False, False])
    watchdog.tell({"NOTIFY_SOCKET": systemd.getsockname()}, lambda: next(answers, True))
    assert systemd.recv(99) == b"READY=1"
    assert next(answers, None) is None


def test_a_name_in_the_kernels_own_space(tmp_path: Path) -> None:
    name = f"@gridgov-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hears:
        hears.bind(name.replace("@", "\0"))
        hears.settimeout(20)
        watchdog.tell({"NOTIFY_SOCKET": name}, lambda: True)
        assert hears.recv(99) == b"READY=1"


def test_elsewhere_nobody_is_told(systemd: socket.socket, tmp_path: Path) -> None:
    watchdog.tell({"WATCHDOG_USEC": MICROSECONDS}, lambda: True)
    watchdog.tell({"NOTIFY_SOCKET": str(tmp_path / "gone")}, lambda: True)
    systemd.setblocking(False)
    with pytest.raises(BlockingIOError):
        systemd.recv(99)
