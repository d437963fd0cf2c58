"""What is written is on the disk, under its name, before anybody relies on it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.files import write_whole
from service.intake.keys import Keys, Role


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the disk was told, in order."""
    told: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def flushed(handle: int) -> None:
        told.append(f"flush {Path(f'/proc/self/fd/{handle}').readlink().name}")
        fsync(handle)

    def renamed(self: Path, target: Path) -> Path:
        told.append(f"rename {self.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    return told


def test_content_then_name_then_directory(tmp_path: Path, steps: list[str]) -> None:
    write_whole(tmp_path / "some.json", b"{}")

    assert (tmp_path / "some.json").read_bytes() == b"{}"
    assert (tmp_path / "some.json").stat().st_mode & 0o777 == 0o600
    assert steps == ["flush some.new", "rename some.new", f"flush {tmp_path.name}"]


def test_a_revoked_key_stays_revoked_through_a_power_loss(tmp_path: Path, steps: list[str]) -> None:
    keys = Keys(tmp_path / "keys.json")
    keys.add("platform", Role.SENDER)
    steps.clear()

    keys.revoke(keys.all()[0].id)

    assert steps[-2:] == ["rename keys.new", f"flush {tmp_path.name}"]
