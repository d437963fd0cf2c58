"""What a row of the fault suite is. Each module of this folder adds its rows to `ROWS`; `__main__` runs them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.postgresql import installed


@dataclass(frozen=True)
class Seen:
    """What a run of a row showed: the figures, in words for the table, and whether they meet the demand."""

    met: bool
    figures: str


@dataclass(frozen=True)
class Setting:
    """Where and how a row runs: an empty directory of its own, a seed, and whether it is the short form (CI)."""

    directory: Path
    seed: int
    short: bool


@dataclass(frozen=True)
class Row:
    """One fault. `control` runs the same with the protection taken away, and must *not* meet the demand.

    `needs` names programs or facilities (`root`, `loop`); one that is missing is told by name, and fails in CI when the
    row belongs to the short form.
    """

    name: str
    demand: str
    run: Callable[[Setting], Seen]
    control: Callable[[Setting], Seen] | None
    control_is: str = ""  # what the control takes away, in words
    needs: tuple[str, ...] = ()
    in_short: bool = False  # part of what CI runs: cheap, and no matter of how fast the machine is


ROWS: list[Row] = []


def missing(row: Row) -> list[str]:
    """What this machine lacks for a row."""
    return [need for need in row.needs if not _there(need)]


def _there(need: str) -> bool:
    if need == "root":
        return os.geteuid() == 0
    if need == "loop":
        return Path("/dev/loop-control").exists() and os.geteuid() == 0
    return installed() if need == "postgresql" else shutil.which(need) is not None
