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


def below(pid: int) -> list[int]:
    """The processes below a process, of every generation."""
    found = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            children = [int(child) for child in (task / "children").read_text().split()]
            found += [one for child in children for one in (child, *below(child))]
    except FileNotFoundError:  # it has ended meanwhile
        pass
    return found


def command(pid: int) -> str:
    """The command line of a process; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except FileNotFoundError:
        return ""


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time of these processes so far, in user and kernel mode, to 10 ms."""
    return sum(_cpu_ticks(pid) for pid in pids) / TICKS


def memory_mib(pid: int) -> float:
    """What a process has in memory."""
    return int((_field(f"/proc/{pid}/status", "VmRSS") or "0 kB").split()[0]) / 1024


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
