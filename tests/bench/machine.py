"""The machine: what it is, and what processes cost it, as /proc tells."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

from deploy.kafka.broker import VERSION as KAFKA

TICKS = os.sysconf("SC_CLK_TCK")
ROLES = ("web", "relay")
PARTS = ("granian", "Flask", "marshmallow", "orjson", "apsw", "kafka-python")


def facts(scratch: Path) -> Iterator[tuple[str, str]]:
    """What a figure means nothing without."""
    cpu = _field("/proc/cpuinfo", "model name") or platform.machine()
    memory = int((_field("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) / 2**20
    yield "processor", f"{len(os.sched_getaffinity(0))} cores of {cpu}, {memory:.0f} GiB"
    yield "system", f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    yield "parts", ", ".join(f"{name} {version(name)}" for name in PARTS) + f", Apache Kafka {KAFKA}"
    yield "disk", f"{_filesystem(scratch)}, a flushed write of 4 KiB: {_flush_ms(scratch):.2f} ms"
    yield "load before", " ".join(f"{one:.2f}" for one in os.getloadavg())


def roles(pid: int, role: str = "") -> Iterator[tuple[int, str]]:
    """The process and all below it, each with its role: the last word of its command, or else of the one above."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode(errors="replace").split("\0")
        children = [child for task in Path(f"/proc/{pid}/task").iterdir() for child in _children(task)]
    except FileNotFoundError:  # it has ended meanwhile
        return
    role = words[-1] if words[-1] in ROLES else role
    yield pid, role
    for child in children:
        yield from roles(child, role)


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time of these processes so far, in user and kernel mode, to 10 ms."""
    return sum(_cpu_ticks(pid) for pid in pids) / TICKS


def most_memory_mib(pid: int) -> float:
    """The most that a process ever had in memory."""
    return int((_field(f"/proc/{pid}/status", "VmHWM") or "0 kB").split()[0]) / 1024


def _children(task: Path) -> list[int]:
    try:
        return [int(child) for child in (task / "children").read_text().split()]
    except FileNotFoundError:
        return []


def _cpu_ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except FileNotFoundError:
        return 0
    return int(fields[11]) + int(fields[12])


def _field(file: str, name: str) -> str | None:
    lines = (line.partition(":") for line in Path(file).read_text().splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), None)


def _filesystem(path: Path) -> str:
    told = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=False)
    return told.stdout.strip() or "unknown"


def _flush_ms(scratch: Path) -> float:
    """The median of 50."""
    taken, file = [], os.open(scratch / "flush", os.O_WRONLY | os.O_CREAT)
    for _ in range(50):
        started = time.perf_counter()
        os.pwrite(file, b"x" * 4096, 0)
        os.fdatasync(file)
        taken.append(time.perf_counter() - started)
    os.close(file)
    return statistics.median(taken) * 1000
