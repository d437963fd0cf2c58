"""What is deployed names only what exists: options, commands, files, ports."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from service import config
from service.cli.main import main

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
OURS = ("web", "relay", "key")
COMMANDS = main.list_commands(click.Context(main))


def test_compose_sets_only_options_that_exist() -> None:
    known = {config.env_name(option) for option in config.options()}
    for name in OURS:
        assert set(COMPOSE["services"][name]["environment"]) <= known


def test_compose_sets_options_that_are_right_together() -> None:
    config.load(COMPOSE["services"]["web"]["environment"])


def test_compose_runs_commands_that_exist() -> None:
    assert [COMPOSE["services"][name]["command"][0] in COMMANDS for name in ("web", "relay")] == [True, True]
    assert set(re.findall(r"gridgov (\w+)", COMPOSE["services"]["key"]["command"][0])) <= set(COMMANDS)


@pytest.mark.parametrize("unit", sorted((DEPLOY / "systemd").glob("*.service")), ids=lambda path: path.stem)
def test_systemd_runs_commands_and_sets_options_that_exist(unit: Path) -> None:
    read = configparser.ConfigParser(strict=False, interpolation=None)
    read.optionxform = str  # type: ignore[assignment, method-assign]  # systemd's keys have capitals
    read.read_string(unit.read_text(encoding="utf-8"))
    program, command = read["Service"]["ExecStart"].split()
    assert (Path(program).name, command) == ("gridgov", unit.stem.removeprefix("gridgov-"))
    assert command in COMMANDS
    name, _, value = read["Service"]["Environment"].partition("=")
    assert name in {config.env_name(option) for option in config.options()}
    assert value == f"/var/lib/{read['Service']['StateDirectory']}"
    assert read["Service"]["Restart"] == "always"


def test_every_file_that_compose_mounts_or_builds_is_there() -> None:
    for service in COMPOSE["services"].values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert source in COMPOSE["volumes"] or (DEPLOY / source).exists(), mount
    assert (DEPLOY / ".." / COMPOSE["services"]["web"]["build"]["dockerfile"]).exists()


def test_every_image_is_pinned_and_only_loopback_is_published() -> None:
    for name, service in COMPOSE["services"].items():
        assert name in OURS or re.fullmatch(r".+:v?[0-9][\w.-]+", service["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_the_image_copies_all_that_its_steps_need() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    for path in " ".join(copied).split():
        assert (DEPLOY.parent / path).exists(), path
