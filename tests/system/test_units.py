"""The systemd units: how much they take away, and that each process tells what its unit waits for.

That they run under a real systemd, with all of it: `make units`.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.broker import free_port
from tests.gridgov import NO_KAFKA, Gridgov, listens

UNITS = sorted((Path(__file__).parents[2] / "deploy" / "systemd").glob("*.service"))
MOST = 2.0  # of 10, by systemd's own judgement; less is better


def exposure(unit: Path) -> float:
    program = shutil.which("systemd-analyze")
    assert program, "no systemd-analyze here; `sh deploy/packages.sh test` installs systemd"
    done = subprocess.run(
        [program, "security", "--offline=true", "--no-pager", str(unit)], capture_output=True, text=True, check=False
    )
    [found] = re.findall(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    return float(found)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_little_is_left_to_who_breaks_in(unit: Path, tmp_path: Path) -> None:
    assert exposure(unit) <= MOST
    control = tmp_path / unit.name  # the same without the filter of system calls and the empty set of capabilities
    control.write_text(
        re.sub(r"^(SystemCall|Capability).*\n", "", unit.read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    assert exposure(control) > MOST


@pytest.mark.parametrize("name", ["web", "relay", "sink"])
def test_a_process_tells_that_it_is_ready_and_lives(name: str, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
        sink = {"GRIDGOV_SINK_DATABASE": f"sqlite:///{tmp_path}/db", "GRIDGOV_SINK_METRICS_PORT": str(free_port())}
        gridgov = Gridgov(tmp_path / "var", NO_KAFKA, told | sink)
        try:
            gridgov.start(name)
            assert systemd.recv(99) == b"READY=1"
            assert name != "web" or listens(gridgov.port)
            assert [systemd.recv(99) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        finally:
            gridgov.stop()
