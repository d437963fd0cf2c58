"""The sign of life that a relay leaves beside the journal, for the processes that rely on it."""

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from service.ports import Clock, PauseReason

log = logging.getLogger(__name__)

FILE = "relay.json"
PULSELESS_SECONDS = 15.0


class Pulse:
    """Tells the other processes, through a small file in `directory`, that the relay lives and how it fares.

    `tell` is for those on other machines.
    """

    def __init__(self, directory: Path, clock: Clock, tell: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path, self._clock, self._tell = directory / FILE, clock, tell
        self._next = 0.0
        self._last = clock.monotonic()
        self.connected = False
        self.paused: Mapping[str, PauseReason] = {}

    @property
    def age(self) -> float:
        """Seconds since the relay's loop last turned."""
        return self._clock.monotonic() - self._last

    def beat(self, *, connected: bool, paused: Mapping[str, PauseReason]) -> None:
        """Write at most once a second; the file is replaced whole."""
        self._last, self.connected, self.paused = self._clock.monotonic(), connected, paused
        if self._last < self._next:
            return
        self._next = self._last + 1
        status = {"at": int(self._clock.time() * 1000), "pid": os.getpid(), "connected": connected, "paused": paused}
        try:
            self._write(orjson.dumps(status))
        except OSError as error:  # a full disk: it is the relay that empties it, and must live
            log.warning("pulse not written", extra={"error": str(error)})
            with suppress(OSError):
                os.utime(self._path)
        self._tell(status)

    def _write(self, status: bytes) -> None:
        draft = self._path.with_suffix(".new")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(status)
        draft.replace(self._path)


def heard(directory: Path) -> Any:
    """What the last pulse in `directory` told. Raises OSError or ValueError when there is none."""
    return orjson.loads((directory / FILE).read_bytes())


class Listener:
    """Hears, from another process, whether the relay of `directory` goes on.

    By its own clock that nobody sets: a time stamp from before somebody set the time of day would kill a healthy one.
    """

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._path, self._clock = directory / FILE, clock
        self._heard: tuple[int, float] | None = None  # the file's time stamp, and when it was first seen

    def pulseless(self) -> bool:
        """Whether there has been a pulse, and then no more for too long."""
        try:
            stamp = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        now = self._clock.monotonic()
        if self._heard is None or self._heard[0] != stamp:
            self._heard = (stamp, now)
        return now - self._heard[1] > PULSELESS_SECONDS
