"""How much room the journal has: what it may take, and when it takes no new reports."""

import shutil
import time
from pathlib import Path

from service.journal.sqlite import Db, sizes
from service.ports import JournalFull

HARD_MARK, REOPEN_MARK = 0.90, 0.80  # of the limit: refuse new reports above, accept again below
LOOK_SECONDS = 0.02
REOPEN_RESERVE = 1.25  # of the reserve: accept again when so much of the disk is free
MOST_RESERVE, RESERVE_SHARE = 32 * 1024 * 1024, 16  # kept free, and ballast: at most a sixteenth of the file system
PLENTY = 4  # times the reserve: with less than that free, room is short


def room(directory: Path, limit: int) -> int:
    """Bytes the journal may take: what is configured, or most of a smaller file system."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return min(limit, shutil.disk_usage(directory).total * 3 // 4)


def reserve(directory: Path) -> int:
    """Bytes to set aside on the file system of `directory`."""
    return min(MOST_RESERVE, shutil.disk_usage(directory).total // RESERVE_SHARE)


class Marks:
    """Whether new reports are refused for want of room. `limit` is in bytes of pages in use.

    On a disk that others have filled it is less: the last of it is for the relay, which can free the rest only by
    writing.
    """

    def __init__(self, directory: Path, limit: int) -> None:
        self.limit = limit
        self.closed = False  # past the hard mark, and not yet below the one to reopen at
        self._directory, self._reserve = directory, reserve(directory)
        self._look_at = 0.0

    def look(self, db: Db) -> bool:
        """Whether it is full; inside a transaction. While there is room, looked at again after `LOOK_SECONDS`.

        What is written between two looks is far less than what lies between the mark and the end of the room.
        """
        now = time.monotonic()
        if now < self._look_at and not self.closed:
            return False
        self._look_at = now + LOOK_SECONDS
        mark = REOPEN_MARK if self.closed else HARD_MARK
        used, unused = sizes(db)
        self.closed = used >= self.limit * mark or self.scarce(unused)
        return self.closed

    def scarce(self, unused: int) -> bool:
        """Whether the file system has too little left beside the `unused` bytes of the file."""
        free = shutil.disk_usage(self._directory).free + unused
        return free < self._reserve * (REOPEN_RESERVE if self.closed else 1)

    def hoarding(self, unused: int) -> bool:
        """Whether the `unused` bytes of the file are most of what is left, where room is short: the casebook, the pulse
        and the audit log live on the same disk, and what the file keeps is no use to them."""
        free = shutil.disk_usage(self._directory).free
        return free < unused and free < self._reserve * PLENTY

    @property
    def full(self) -> JournalFull:
        """What is raised while it is."""
        return JournalFull(f"past {HARD_MARK:.0%} of {self.limit} bytes")
