"""Room set aside for the worst day: a journal on a full disk cannot even delete, so it could never drain itself.

A file of zeros that is removed when the disk is full, which gives the relay the room to settle what it publishes, and
is made again when there is plenty.
"""

import logging
import os
import shutil
from pathlib import Path

from service.journal.room import PLENTY, reserve

log = logging.getLogger(__name__)


class Ballast:
    """The ballast beside the journal in `directory`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = directory / "ballast"
        self.size = reserve(directory)

    def release(self) -> bool:
        """Give the room back to the disk; whether there was any to give."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        log.error("disk full, ballast released", extra={"bytes": self.size})
        return True

    def restore(self) -> None:
        """Make it, if it is missing and there is plenty of room."""
        if self._path.exists() or shutil.disk_usage(self._path.parent).free < PLENTY * self.size:
            return
        draft = self._path.with_suffix(".new")
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
                os.posix_fallocate(file.fileno(), 0, self.size)
            draft.replace(self._path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            log.warning("no ballast", extra={"error": str(error)})
