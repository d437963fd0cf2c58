"""File systems of our own to break: small ones, in a file or in memory, unmounted whatever happens. Needs root."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.gridgov import until

FS_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2  # linux/fs.h, ext4.h: stop at once, the journal in memory is gone too


@contextmanager
def tmpfs(at: Path, *, mebibytes: int) -> Iterator[Path]:
    """A file system in memory, mounted on `at`."""
    at.mkdir(mode=0o700)
    _run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0700", "tmpfs", str(at))
    try:
        yield at
    finally:
        _unmount(at)


def grow(at: Path, *, mebibytes: int) -> None:
    """Give a `tmpfs` more room."""
    _run("mount", "-o", f"remount,size={mebibytes}m", str(at))


@dataclass
class Disk:
    """An ext4 file system in the file `image`, to be mounted on `at` over a loop device."""

    image: Path
    at: Path

    def format(self, *, mebibytes: int) -> None:
        """Make it anew; it must not be mounted."""
        with self.image.open("wb") as file:
            file.truncate(mebibytes << 20)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(self.image))

    def mount(self) -> None:
        """Mount it, which replays ext4's own journal."""
        self.at.mkdir(mode=0o700, exist_ok=True)
        _run("mount", "-o", "loop,errors=remount-ro", str(self.image), str(self.at))

    def unmount(self) -> None:
        """Waits a little for the last one who has a file open there. Nothing happens when it is not mounted."""
        if self._device():
            until(lambda: _done("umount", str(self.at)), f"{self.at} is unmounted")

    def cut_power(self) -> None:
        """From now on nothing more reaches the disk, and whoever writes or flushes is told EIO."""
        handle = os.open(self.at, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, FS_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(handle)

    def turn_read_only(self) -> None:
        """What ext4 does when it meets an error of the disk (errors=remount-ro), files open for writing or not."""
        Path(f"/sys/fs/ext4/{self._device()}/trigger_fs_error").write_text("on purpose")

    def remount(self) -> None:
        """Power is back: ext4 replays its own journal."""
        self.unmount()
        self.mount()

    def repair(self) -> None:
        """Unmount, check, mount: what an operator does after an error of the disk."""
        self.unmount()
        subprocess.run(["e2fsck", "-p", "-f", str(self.image)], capture_output=True, check=False)  # 1: it was mended
        self.mount()

    def _device(self) -> str:
        for line in Path("/proc/mounts").read_text().splitlines():
            device, at, *_ = line.split()
            if at == str(self.at):
                return Path(device).name
        return ""


@contextmanager
def ext4(directory: Path, *, mebibytes: int = 64) -> Iterator[Disk]:
    """A new ext4, mounted on `directory`/var."""
    disk = Disk(directory / "image", directory / "var")
    disk.format(mebibytes=mebibytes)
    disk.mount()
    try:
        yield disk
    finally:
        _unmount(disk.at)


def fill(at: Path) -> Path:
    """Take all the room that is left; remove the file to give it back."""
    filler = at / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return filler


def _unmount(at: Path) -> None:
    if not _done("umount", str(at)):
        _run("umount", "--lazy", str(at))  # somebody still has a file open; the loop device goes with the last one


def _done(*command: str) -> bool:
    return not subprocess.run(command, capture_output=True, check=False).returncode


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
