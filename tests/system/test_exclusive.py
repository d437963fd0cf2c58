"""What one service serves no other may serve: neither its address nor its journal."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gridgov import Gridgov, report


@pytest.fixture
def first(tmp_path: Path) -> Gridgov:
    made = Gridgov(tmp_path / "first", "127.0.0.1:1")
    made.start("web")
    return made.ready()


def ended(gridgov: Gridgov) -> str:
    """Start its web process, which must not stay; what it said."""
    assert gridgov.start("web").wait(30) == 1
    return gridgov.log[-400:]


def test_a_second_service_on_the_same_port_does_not_start(first: Gridgov, tmp_path: Path) -> None:
    second = Gridgov(tmp_path / "second", "127.0.0.1:1")
    second.port = first.port
    try:
        assert f"127.0.0.1:{first.port}: Address already in use" in ended(second)
        answers = [first.post(report(f"r-{number}"))[0] for number in range(20)]
        assert answers == [202] * 20
        assert [first.post(report(f"r-{number}"))[1]["duplicate"] for number in range(20)] == [True] * 20
    finally:
        first.stop()


def test_nor_one_on_the_same_journal(first: Gridgov) -> None:
    second = Gridgov(first.data_dir, "127.0.0.1:1")
    try:
        assert "another gridgov web serves this data directory" in ended(second)
    finally:
        first.stop()


def test_nor_one_where_a_program_listens_that_would_share(tmp_path: Path) -> None:
    gridgov = Gridgov(tmp_path, "127.0.0.1:1")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", gridgov.port))
        other.listen()
        assert "Address already in use" in ended(gridgov)


def test_after_a_kill_the_next_one_starts(first: Gridgov) -> None:
    [web] = first.processes
    web.kill()
    web.wait()
    first.start("web")
    first.ready().stop()


@pytest.mark.parametrize("command", ["web", "relay", "run"])
def test_without_asserts_nothing_starts(tmp_path: Path, command: str) -> None:
    """kafka-python does some of its work in them: reports would be accepted, and never reach Kafka."""
    environment = {**os.environ, "GRIDGOV_DATA_DIR": str(tmp_path), "GRIDGOV_ALLOW_VOLATILE": "yes"}
    said = subprocess.run(
        [sys.executable, "-O", "-m", "service.cli", command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert said.returncode == 2
    assert "Python runs with -O" in said.stderr
