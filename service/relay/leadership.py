"""What makes one relay the leader of a journal: a lock that ends with its process."""

import fcntl
import logging
import os
import threading
from pathlib import Path
from typing import Protocol

from prometheus_client import Gauge

log = logging.getLogger(__name__)

STANDBY_SECONDS = 0.25


class Leader(Protocol):
    """What makes one relay of many the leader."""

    @property
    def leading(self) -> bool:
        """Whether this process is."""

    def wait(self, stop: threading.Event) -> bool:
        """Stand by until this process leads; False when asked to stop before that."""


class Leadership:
    """The lock that makes one relay the leader of a journal; the kernel frees it when the process dies."""

    def __init__(self, directory: Path, told: Gauge) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.leading = False
        self._told = told
        self._fd = os.open(directory / "relay.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def wait(self, stop: threading.Event) -> bool:
        """Stand by until this process leads; False when asked to stop before that."""
        told = False
        while not stop.is_set():
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    log.info("standing by, another relay leads")
                    told = True
                stop.wait(STANDBY_SECONDS)
            else:
                self.leading = True
                self._told.set(1)
                return True
        return False
