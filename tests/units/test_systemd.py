"""`make units`: the units under a real systemd, with all that they take away. As root; not in CI, it needs cgroups.

The systemd is a second one, in namespaces of its own (processes, mounts, names), which knows these units only. They
are changed in where the program, its options and its data are, and the watchdog waits 6 s instead of 60.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import urllib3

from tests.broker import free_port
from tests.gridgov import NO_KAFKA, die_with_parent, report, until

ROOT = Path(__file__).parents[2]
UNITS = ("gridgov-web", "gridgov-relay", "gridgov-sink")
ALONE = "[Unit]\nDefaultDependencies=no\n"
HTTP = urllib3.PoolManager(retries=False, timeout=5)
OPTIONS = ("PORT", "WEB_METRICS_PORT", "RELAY_METRICS_PORT", "SINK_METRICS_PORT")
PORTS = {f"GRIDGOV_{name}": free_port() for name in OPTIONS}


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A directory that the units can see: /root, /home and the temporary ones they cannot."""
    made = Path(tempfile.mkdtemp(prefix="gridgov-units-", dir="/opt"))
    made.chmod(0o755)
    states = [Path("/var/lib") / made.name, Path("/var/lib") / f"{made.name}-sink"]
    try:
        program = made / "program"
        subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", program], check=True)
        uv = ROOT / ".venv" / "bin" / "uv"
        lock = ("--constraint", ROOT / "requirements.lock")
        subprocess.run([uv, "pip", "install", "-q", "--python", program / "bin/python", *lock, ROOT], check=True)
        yield made
    finally:
        shutil.rmtree(made)
        for state in states:
            shutil.rmtree(state, ignore_errors=True)


@pytest.fixture(scope="module")
def systemd(home: Path) -> Iterator[int]:
    """The pid of a systemd that was told to start the units."""
    if Path("/proc/1/comm").read_text().strip() == "systemd":
        pytest.skip(
            "this machine has a systemd, whose control groups a second one would disturb: try the units with it"
        )
    units = home / "units"
    units.mkdir()
    for unit in UNITS:
        text = (ROOT / "deploy" / "systemd" / f"{unit}.service").read_text(encoding="utf-8")
        (units / f"{unit}.service").write_text(adapted(text, home), encoding="utf-8")
    (units / "try.target").write_text(ALONE + f"Wants={' '.join(f'{unit}.service' for unit in UNITS)}\n")
    for name in ("basic", "sysinit", "shutdown", "exit", "rescue", "emergency"):
        (units / f"{name}.target").write_text(ALONE)
    options = {"GRIDGOV_ALLOW_VOLATILE": "yes", "KAFKA_BOOTSTRAP_SERVERS": NO_KAFKA, **PORTS}
    options["GRIDGOV_SINK_DATABASE"] = f"sqlite:////var/lib/{home.name}-sink/cases.db"
    (home / "env").write_text("".join(f"{name}={value}\n" for name, value in options.items()))
    (home / "console").touch()
    inside = (
        "mount --make-rprivate / && mount -t tmpfs tmpfs /run && mount --bind $0/console /dev/console &&"
        " exec /lib/systemd/systemd --system --unit=try.target --log-target=console"
    )
    outside = subprocess.Popen(
        ["unshare", "-fpmui", "--kill-child", "--mount-proc", "sh", "-c", inside, str(home)],
        env={"container": "lxc", "PATH": os.environ["PATH"], "SYSTEMD_UNIT_PATH": str(units)},
        preexec_fn=die_with_parent,
    )
    try:
        pid = until(lambda: child(outside.pid), "systemd is the first process of its namespace")
        yield pid
    finally:
        outside.kill()
        outside.wait()
        made = [*Path("/sys/fs/cgroup").glob("*/init.scope"), *Path("/sys/fs/cgroup").glob("*/system.slice")]
        until(lambda: emptied(made), "the control groups that it made are gone")


def emptied(groups: list[Path]) -> bool:
    for group in groups:
        subprocess.run(["find", group, "-depth", "-type", "d", "-delete"], stderr=subprocess.DEVNULL, check=False)
    return not any(group.exists() for group in groups)


def child(pid: int) -> int:
    return int((Path(f"/proc/{pid}/task/{pid}/children").read_text() or "0").split()[0])


def adapted(text: str, home: Path) -> str:
    for old, new in (
        ("/opt/gridgov/bin", f"{home}/program/bin"),
        ("/etc/gridgov/gridgov.env", f"{home}/env"),
        ("/var/lib/gridgov", f"/var/lib/{home.name}"),
        ("StateDirectory=gridgov", f"StateDirectory={home.name}"),
        ("User=gridgov", "User=nobody"),
        ("WatchdogSec=60", "WatchdogSec=6"),
        ("[Unit]\n", ALONE),
    ):
        assert old in text, old
        text = text.replace(old, new)
    return re.sub(r"(?m)^(After|Wants)=.*\n", "", text)


def told(systemd: int, unit: str, *names: str) -> dict[str, str]:
    """What systemd says of a unit."""
    asked = [f"--property={name}" for name in names]
    command = ["nsenter", "-t", str(systemd), "-m", "-p", "-u", "-i", "systemctl", "show", *asked, unit]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL)
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def is_active(systemd: int, unit: str) -> bool:
    return told(systemd, unit, "ActiveState").get("ActiveState") == "active"


def test_all_tell_that_they_are_ready(systemd: int, home: Path) -> None:
    until(lambda: all(is_active(systemd, unit) for unit in UNITS), "all are active", seconds=60, every=0.5)
    until((Path("/var/lib") / f"{home.name}-sink" / "cases.db").exists, "the sink has made its database")


def test_whoever_freezes_is_killed_and_started_again_and_nothing_is_lost(systemd: int, home: Path) -> None:
    url = f"http://127.0.0.1:{PORTS['GRIDGOV_PORT']}/v1/reports"
    body = orjson.dumps(report("unit"))
    assert HTTP.request("POST", url, body=body, headers={"Content-Type": "application/json"}).status == 202
    for unit in UNITS:
        for pid in processes(home, unit):
            os.kill(pid, signal.SIGSTOP)
    until(lambda: all(is_anew(systemd, unit) for unit in UNITS), "all run again", seconds=60, every=0.5)
    assert HTTP.request("GET", f"{url}/r-unit").status == 200


def is_anew(systemd: int, unit: str) -> bool:
    return told(systemd, unit, "NRestarts")["NRestarts"] != "0" and is_active(systemd, unit)


def processes(home: Path, unit: str) -> list[int]:
    """The unit's processes, by the numbers that they have out here."""
    command = f"{home}/program/bin/gridgov {unit.removeprefix('gridgov-')}"
    done = subprocess.run(["pgrep", "-f", f"{command}$"], capture_output=True, text=True, check=True)
    return [int(pid) for pid in done.stdout.split()]
