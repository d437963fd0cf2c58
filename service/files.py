"""Files that must be there after a power loss, and files of which one process at a time may be busy."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Put a file (0600) in the place of the one that is there: either the old or the new one, whole, whatever happens.

    When this returns the disk has it, its name too.
    """
    replace_whole(path, content, flush=True)
    flush_directory(path.parent)


def replace_whole(path: Path, content: bytes, *, flush: bool = False) -> None:
    """The same for what may be lost with the machine: whole for whoever reads it."""
    draft = path.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
        if flush:
            file.flush()
            os.fsync(file.fileno())
    draft.replace(path)


@contextmanager
def one_at_a_time(lock: Path, *, but_shared: bool = False) -> Iterator[None]:
    """Wait until no other, in whatever process, is inside with the same directory, or file, which is made if missing.

    Those who come `but_shared` may be inside together.
    """
    handle = os.open(lock, os.O_CLOEXEC | (os.O_RDONLY if lock.is_dir() else os.O_RDWR | os.O_CREAT), 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH if but_shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def flush_directory(path: Path) -> None:
    """Have the disk know which files there are."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
