"""Several web processes as one: whichever is asked how it is, or what it has counted, answers for all.

Each counts for itself, so that no request pays for there being others; who is asked adds up. They speak over sockets in
the kernel's own space of names: those end with their process, whatever ends it, so no file can be left over.
"""

import logging
import os
import secrets
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import add
from typing import Any, NamedTuple

import orjson
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

from service.ops import Health, Readiness, Untold

log = logging.getLogger(__name__)

SECONDS = 2.0  # for an answer: who has given none by then may hang
SILENT = "web_process_silent"
BACKLOG = 64
_WORST = (Health.READY, Health.DEGRADED, Health.UNREADY)
_NO_SUMS: Mapping[str, Callable[[float, float], float]] = {
    "gridgov_keys_stale": max,
    "process_start_time_seconds": max,
    "process_max_fds": min,
}

Figures = list[tuple[str, str, str, list[tuple[str, dict[str, str], float, list[Any] | None]]]]
"""Families: name, help, type, samples; a sample: name, labels, value, exemplar."""


class Team:
    """`size` processes that serve together. Made before they are forked, as they know each other by what it holds."""

    def __init__(self, size: int) -> None:
        self.size, self._token = size, secrets.token_hex(16)

    def address(self, place: int) -> str:
        """Where the one in that place can be asked."""
        return f"\0gridgov-web-{self._token}-{place}"


class Peer:
    """A process of a team, in the first place that is free: there it gives its own `answers`, by the question.

    Raises OSError when every place is taken.
    """

    def __init__(self, team: Team, answers: Mapping[str, Callable[[], object]]) -> None:
        self._team, self._answers = team, answers
        self._socket = socket.socket(socket.AF_UNIX)
        self.place = self._take_place()
        self._socket.listen(BACKLOG)
        self._thread = threading.Thread(target=self._serve, name="peers", daemon=True)
        self._thread.start()

    def ask(self, question: str) -> list[Any]:
        """What all say, this one first. Raises `Untold` when one is silent: it starts, ends, or hangs."""
        others = [place for place in range(self._team.size) if place != self.place]
        return [self._answers[question](), *(self._asked(place, question) for place in others)]

    def close(self) -> None:
        """Give the place back."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _take_place(self) -> int:
        for place in range(self._team.size):
            try:
                self._socket.bind(self._team.address(place))
            except OSError:  # another's
                continue
            return place
        self._socket.close()
        raise OSError(f"more than {self._team.size} processes in one team")

    def _asked(self, place: int, question: str) -> Any:
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(SECONDS)
                line.connect(self._team.address(place))
                _must_be_ours(line)
                line.sendall(question.encode())
                line.shutdown(socket.SHUT_WR)
                return orjson.loads(_all(line))
        except (OSError, ValueError) as error:
            raise Untold(f"web process {place} does not answer: {error}") from error

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._socket.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._answer, args=(line,), name="peer", daemon=True).start()

    def _answer(self, line: socket.socket) -> None:
        with line:
            try:
                line.settimeout(SECONDS)
                _must_be_ours(line)
                line.sendall(orjson.dumps(self._answers[_all(line).decode()]()))
            except Exception as error:  # the other takes us for silent, and says so to whoever watches
                log.error("peer not answered", exc_info=error)


class Alone(NamedTuple):
    """How a process is by itself."""

    alive: Callable[[], bool]
    ready: Callable[[], Readiness]
    first: bool = True


class Together(Collector):
    """What a team tells: all live, the worst readiness, and the sums of `counted`, which each has for itself."""

    def __init__(self, team: Team, counted: CollectorRegistry, one: Alone) -> None:
        self._peer = Peer(
            team, {"alive": one.alive, "ready": lambda: _told(one.ready()), "figures": lambda: figures(counted)}
        )
        self.first = self._peer.place == 0
        """Whether this one answers on the port of metrics and probes."""

    def alive(self) -> bool:
        """Whether all are."""
        try:
            return all(self._peer.ask("alive"))
        except Untold:
            return False

    def ready(self) -> Readiness:
        """The worst, with everybody's reasons; unready while one is silent, as its part of the connections waits."""
        try:
            return worst([Readiness(Health(health), tuple(why)) for health, why in self._peer.ask("ready")])
        except Untold:
            return Readiness(Health.UNREADY, (SILENT,))

    def collect(self) -> Iterable[Metric]:
        """The sums. Raises `Untold` while one is silent: a sum without it would look like a restart, and with it again
        like everything that it has counted, counted anew."""
        return summed(self._peer.ask("figures"))

    def close(self) -> None:
        """Leave the team."""
        self._peer.close()


def worst(all_of_them: Sequence[Readiness]) -> Readiness:
    """How ready they are together."""
    reasons = dict.fromkeys(reason for one in all_of_them for reason in one.reasons)
    return Readiness(max((one.health for one in all_of_them), key=_WORST.index), tuple(reasons))


def figures(registry: CollectorRegistry) -> Figures:
    """What a registry holds, as it can be told."""
    return [
        (
            family.name,
            family.documentation,
            family.type,
            [(one.name, one.labels, one.value, list(one.exemplar) if one.exemplar else None) for one in family.samples],
        )
        for family in registry.collect()
    ]


def summed(told: Iterable[Figures]) -> Iterator[Metric]:
    """Counters, buckets and gauges added up per label set; an exemplar is of whoever has one."""
    families: dict[str, Metric] = {}
    samples: dict[str, dict[tuple[str, ...], Sample]] = {}
    for name, doc, kind, listed in (family for one in told for family in one):
        families.setdefault(name, Metric(name, doc, kind))
        known, join = samples.setdefault(name, {}), _NO_SUMS.get(name, add)
        for sample, labels, value, exemplar in listed:
            key = (sample, *labels.values())
            one = Sample(sample, labels, value, None, Exemplar(*exemplar) if exemplar else None)
            had = known.get(key)
            known[key] = _joined(had, one, join) if had else one
    for name, family in families.items():
        family.samples = list(samples[name].values())
        yield family


def _joined(one: Sample, other: Sample, join: Callable[[float, float], float]) -> Sample:
    return one._replace(value=join(one.value, other.value), exemplar=one.exemplar or other.exemplar)


def _told(now: Readiness) -> tuple[str, tuple[str, ...]]:
    return now.health, now.reasons


def _all(line: socket.socket) -> bytes:
    return b"".join(iter(lambda: line.recv(1 << 16), b""))


def _must_be_ours(line: socket.socket) -> None:
    """Raise OSError unless the process at the other end is of the same user: names there are for everybody."""
    _, user, _ = struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    if user != os.geteuid():
        raise PermissionError(f"a process of user {user}")
