"""The set-up behind the two commands: what is missing is installed where that is allowed, else named in one line."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import tests.faults
from tests.faults.rows import ROWS
from tests.faults.table import every_row

ROOT = Path(__file__).parents[2]
FACILITIES = ("root", "loop")  # what no package brings
TOOLS = ("cat", "dirname", "sh")  # what every machine has


class Machine:
    """A machine with few programs; what is asked of `sudo` is noted and done as told, never for real."""

    def __init__(self, directory: Path) -> None:
        self.programs, self.noted = directory / "bin", directory / "noted"
        self.programs.mkdir()
        for tool in TOOLS:
            (self.programs / tool).symlink_to(str(shutil.which(tool)))
        self.has("id", "echo 1000")

    def has(self, program: str, script: str = "exit 0") -> Machine:
        path = self.programs / program
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
        return self

    def run(self, script: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        command = ["/bin/sh", str(ROOT / "deploy" / script), *arguments]
        nowhere = str(self.programs / "postgresql")
        asked = {"PATH": str(self.programs), "NOTED": str(self.noted), "POSTGRESQL_DIR": nowhere, **env}
        return subprocess.run(command, cwd=ROOT, env=asked, capture_output=True, text=True, check=False)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_where_all_is_there_nothing_is_said(machine: Machine) -> None:
    machine.has("prometheus")

    done = machine.run("packages.sh", "watch", "run", "check")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_who_may_not_install_gets_one_line_that_names_everything(machine: Machine) -> None:
    machine.has("apt-get").has("curl").has("openssl").has("strace").has("promtool").has("python3", "exit 1").has(
        "sudo", "exit 1"
    )

    done = machine.run("packages.sh", "venv", "test")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "missing here; as root: apt-get install --no-install-recommends"
        " python3-venv systemd golang-go nodejs npm prometheus prometheus-alertmanager chromium postgresql\n"
    )


def test_a_machine_that_is_not_debian_gets_the_names(machine: Machine) -> None:
    done = machine.run("packages.sh", "bench")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "missing here, by the names of Debian's packages: wrk postgresql\n"


def test_a_sudo_that_asks_nothing_installs_and_that_is_said(machine: Machine) -> None:
    machine.has("apt-get").has("sudo", 'echo "$@" >>"$NOTED"')

    done = machine.run("packages.sh", "bench", "watch")

    said = "missing here, installing it: sudo apt-get install --no-install-recommends wrk postgresql prometheus\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    assert machine.noted.read_text().splitlines()[-1].endswith("packages.sh --install wrk postgresql prometheus")


def test_an_installation_that_fails_is_an_error(machine: Machine) -> None:
    machine.has("apt-get").has("sudo", '[ "$2" = true ]')

    done = machine.run("packages.sh", "bench")

    assert done.returncode == 1
    assert done.stderr == "could not be installed: apt-get install --no-install-recommends wrk postgresql\n"


def test_what_the_fault_rows_need_is_installed_for_them() -> None:
    programs = {need for row in every_row(tests.faults, ROWS) for need in row.needs if need not in FACILITIES}
    words = re.split(r"[\s:;]+", (ROOT / "deploy" / "packages.sh").read_text(encoding="utf-8"))

    assert "strace" in programs
    assert programs <= set(words)


def make_venv(machine: Machine, checkout: Path) -> subprocess.CompletedProcess[str]:
    """Run the script that makes .venv in a copy of the checkout's deploy/."""
    shutil.copytree(ROOT / "deploy", checkout / "deploy", ignore=shutil.ignore_patterns("grafana", "demo"))
    command, env = ["/bin/sh", "deploy/venv.sh"], {"PATH": str(machine.programs)}
    done = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, (checkout / ".venv").exists()) == (1, "", False)
    return done


@pytest.mark.parametrize(
    ("script", "found"), [("exit 1", "not there"), ('[ "$1" = --version ] && echo Python 3.10.4', "Python 3.10.4")]
)
def test_a_python_that_is_too_old_is_told_in_one_line(
    machine: Machine, tmp_path: Path, script: str, found: str
) -> None:
    machine.has("python3", script)

    assert make_venv(machine, tmp_path / "checkout").stderr == (
        f"gridgov needs Python 3.11 or newer, and python3 is {found}; name another: make PYTHON=/path/to/python3.12\n"
    )


@pytest.mark.parametrize("name", ["a:b", 'a "b"', "a`b`", "a$b", "a${b}", "a\nb"])
def test_a_place_that_pythons_own_tools_would_mistake_is_told_in_one_line(
    machine: Machine, tmp_path: Path, name: str
) -> None:
    assert make_venv(machine, tmp_path / name).stderr.startswith("this checkout cannot stay here")


@pytest.mark.parametrize("name", ["一网统管 试点", "O'Brien", "50% #1, a\\b", "user$", "[1]* ?q=1&r"])
def test_any_other_is_no_matter(machine: Machine, tmp_path: Path, name: str) -> None:
    machine.has("python3", "exit 1")

    assert make_venv(machine, tmp_path / name).stderr.startswith("gridgov needs Python")
