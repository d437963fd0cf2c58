"""Where one waits for another thread."""

import threading
from typing import Protocol


class Gate(Protocol):
    """Shut at first; opened once, by another thread."""

    def wait(self, seconds: float) -> bool:
        """Wait until it is open, `seconds` at most; whether it is."""

    def open(self) -> None:
        """Let who waits go on."""


class ThreadGate:
    """Stops the thread that waits."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self, seconds: float) -> bool:
        """See `Gate`."""
        return self._lock.acquire(timeout=seconds)

    def open(self) -> None:
        """See `Gate`."""
        self._lock.release()
