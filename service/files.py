"""Files that must be there after a power loss."""

import os
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


def flush_directory(path: Path) -> None:
    """Have the disk know which files there are."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
