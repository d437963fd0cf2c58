"""`gridgov run`: keeps a few processes going together. Not for production, where systemd or Kubernetes does this.

A child that ends is started again with back-off; one that keeps ending makes the whole give up, loudly. Children die
with us even when we are SIGKILLed: the kernel tells them (PR_SET_PDEATHSIG), so no orphan goes on answering.
"""

import ctypes
import fcntl
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
HEALTHY_SECONDS = 10.0  # a child that lived this long starts with a clean record
BACKOFF_SECONDS = (0.5, 1, 2, 4, 8)  # before the 1st, 2nd, … start in a row; after the last one we give up
STOP_SECONDS = 15.0  # from SIGTERM to SIGKILL
LOOK_SECONDS = 0.1


class GaveUp(Exception):
    """A child would not stay alive."""


def die_with_parent(sign: int = signal.SIGKILL, *, parent: int | None = None) -> None:
    """Have the kernel end this process when its parent dies, also by SIGKILL. Linux only; elsewhere does nothing.

    `parent` is its pid as known before the fork; a multiprocessing child knows it by itself. Not `getppid()`: that
    already names a stranger when the parent died before we asked.
    """
    forked_by = multiprocessing.parent_process()
    parent = parent or (forked_by.pid if forked_by else os.getppid())
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is None:
        return
    prctl(PR_SET_PDEATHSIG, int(sign))
    if os.getppid() != parent:  # it died before the kernel knew
        os.kill(os.getpid(), sign)


class Taken(Exception):
    """Another process serves what this one wants to serve."""


@contextmanager
def only_one(directory: Path, host: str, port: int) -> Iterator[None]:
    """Be the only web service of a data directory and of an address, or raise `Taken`.

    The server shares its address with whoever asks (SO_REUSEPORT): two services would answer in turns, neither knowing
    what the other has accepted. The marks end with the process and those that it has forked, whatever ends them.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(directory / "web.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with closing(socket.socket(socket.AF_UNIX)) as mark:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Taken(f"{directory}: another gridgov web serves this data directory") from None
        try:
            mark.bind(f"\0gridgov {host}:{port}")  # in the kernel's own space of names
            _try_address(host, port)
        except OSError as error:
            raise Taken(
                f"{host}:{port}: {error.strerror}; does another gridgov, or another program, listen there?"
            ) from None
        yield
    os.close(lock)


def _try_address(host: str, port: int) -> None:
    """Raise OSError when anybody listens there, also one who would share it."""
    [(family, kind, protocol, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    with closing(socket.socket(family, kind, protocol)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have just ended do not count
        probe.bind(address)


@dataclass(slots=True)
class Child:
    """One process to keep going."""

    name: str
    command: Sequence[str]
    essential: bool = True  # whether we give up when it keeps ending
    hangs: Callable[[], bool] = lambda: False  # asked while it runs: a process that hangs is killed, and started again
    failures: int = 0
    started: float = 0.0
    start_at: float = 0.0
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)


def keep(children: Sequence[Child]) -> None:
    """Run until SIGTERM or SIGINT, then stop the children in order. Raises `GaveUp`."""
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, stop)
    try:
        while not stopping:
            for child in children:
                _look_after(child)
            time.sleep(LOOK_SECONDS)
    finally:
        for child in children:
            _end(child)


def _look_after(child: Child) -> None:
    now = time.monotonic()
    if child.process is None:
        if now >= child.start_at:
            child.process = _start(child)
            child.started = now
            log.info("started", extra={"child": child.name, "pid": child.process.pid})
        return
    code = child.process.poll()
    if code is None:
        if child.hangs() and now - child.started > HEALTHY_SECONDS:
            log.error("killed, it hangs", extra={"child": child.name, "pid": child.process.pid})
            child.process.kill()
        return
    child.process = None
    child.failures = 0 if now - child.started > HEALTHY_SECONDS else child.failures
    if child.failures >= len(BACKOFF_SECONDS):
        if child.essential:
            raise GaveUp(f"{child.name} ended {child.failures + 1} times in a row, last with exit code {code}")
        child.failures -= 1
    wait = BACKOFF_SECONDS[child.failures]
    child.failures += 1
    child.start_at = now + wait
    log.error("ended, starting again", extra={"child": child.name, "exit_code": code, "seconds": wait})


def _start(child: Child) -> "subprocess.Popen[bytes]":
    # A session of its own: Ctrl-C reaches us alone, and we stop the children in order. One thread, so preexec is safe.
    leash = partial(die_with_parent, parent=os.getpid())
    try:
        return subprocess.Popen(child.command, preexec_fn=leash, start_new_session=True)  # noqa: S603, PLW1509
    except OSError as error:  # no such program: starting it again will not help
        raise GaveUp(f"{child.name}: {error.strerror}") from error


def _end(child: Child) -> None:
    if child.process is None:
        return
    child.process.terminate()
    try:
        child.process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        log.error("killed, it would not stop", extra={"child": child.name})
        child.process.kill()
        child.process.wait()
