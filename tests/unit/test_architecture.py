"""The house rules that a reader relies on, read from the source itself; the rooms are in `tests/architecture.py`."""

from __future__ import annotations

import ast
import sys

import pytest

from tests.architecture import PAGE, ROOMS, ROOT, SOURCES, arrows, circles, imports, named, page, room, tree

TOP_LEVEL = {
    *("pyproject.toml", "service", "schemas", "tests", "deploy", "Makefile"),
    *("README.md", "README.zh-CN.md", "CHANGELOG.md", "LICENSE", "requirements.lock"),
    *(".ci", ".git", ".gitignore", ".gitattributes", ".dockerignore", ".editorconfig"),
}
MADE_BY_TOOLS = {".venv", "var", "dist", "build", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}

# library → the rooms or modules that may know it
LIBRARY_OF = {
    "kafka": {"service.broker", "service.consumer", "deploy.kafka", "deploy.docs.examples"},
    "psycopg": {"service.consumer.database", "service.journal.postgresql"},
    "apsw": {"service.journal.sqlite", "deploy.docs.examples"},  # an example is its reader's program
    "granian": {"service.cli.serve"},
    "click": {"service.cli", "deploy.kafka"},
    "urllib3": {"service.cli.replay"},
    "marshmallow": {"schemas"},
    "apispec": {"schemas"},
}
# What builds the parts: the command line is the root of its own small programs; salvage makes the journal that stands
# in for a corrupt one.
BUILDERS = {"service.app", "service.storage", "service.cli", "service.journal.salvage"}
NOT_PURE = {"os", "time", "logging", "socket", "random", "secrets", "subprocess", "threading"}


def within(module: str, places: set[str]) -> bool:
    return any(f"{module}.".startswith(f"{place}.") for place in places)


def test_every_module_has_a_room() -> None:
    assert [module for module in SOURCES if room(module) is None] == ["service", "deploy"]


@pytest.mark.parametrize("one", ROOMS)
def test_a_room_imports_only_what_it_may(one: str) -> None:
    assert arrows()[one] <= ROOMS[one]


@pytest.mark.parametrize("one", ROOMS)
def test_a_room_may_import_nothing_that_it_does_not(one: str) -> None:
    """What nobody uses any more is no longer allowed: the table is the picture."""
    assert ROOMS[one] <= arrows()[one]


def test_no_arrow_goes_upward() -> None:
    order = list(ROOMS)

    assert [(one, there) for one in ROOMS for there in ROOMS[one] if order.index(there) >= order.index(one)] == []


def test_nothing_imports_in_circles() -> None:
    assert circles({module: imports(module) for module in SOURCES}) == []


def test_circles_are_found() -> None:
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"], "d": ["a"]}) == [{"b", "c"}]


def test_the_picture_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_the_domain_is_pure() -> None:
    for module in SOURCES:
        if within(module, {"service.domain"}):
            for name in named(module):
                assert name.split(".")[0] in (sys.stdlib_module_names - NOT_PURE) | {
                    "msgspec",
                    "orjson",
                    "schemas",
                    "service",
                }, module


def test_the_request_path_never_touches_kafka() -> None:
    def reached(start: str) -> set[str]:
        seen, left = set[str](), [start]
        while left:
            new = named(left.pop()) - seen
            seen |= new
            left += new & SOURCES.keys()
        return {name.split(".")[0] for name in seen}

    for module in SOURCES:
        if within(module, {"service.intake", "service.journal", "service.cases"}):
            assert "kafka" not in reached(module), module


@pytest.mark.parametrize("library", LIBRARY_OF)
def test_each_library_has_its_place(library: str) -> None:
    users = {module for module in SOURCES if any(name.split(".")[0] == library for name in named(module))}

    assert users
    assert {module for module in users if not within(module, LIBRARY_OF[library])} == set()


def test_only_the_composition_root_builds_the_parts() -> None:
    ours = {module for module in SOURCES if within(module, {"service"})}
    roots = ("service.app", "service.storage.storage", "service.storage.postgresql")
    built = {name for root in roots for name in built_in(root)}
    parts = {name for name in built if any(defines(module, name) for module in ours)}
    parts -= {"ConfigError", "JournalError", "JournalUnavailable"}  # values, not parts
    assert {"SqliteJournal", "PostgresqlJournal", "Writer", "Intake", "Api", "Relay", "KafkaPublisher"} <= parts

    for module in ours:
        if not within(module, BUILDERS):
            assert built_in(module) & parts == set(), module


def built_in(module: str) -> set[str]:
    calls = (node.func for node in ast.walk(tree(module)) if isinstance(node, ast.Call))
    return {called.id for called in calls if isinstance(called, ast.Name) and called.id[:1].isupper()}


def defines(module: str, name: str) -> bool:
    return any(isinstance(node, ast.ClassDef) and node.name == name for node in tree(module).body)


def test_no_options_are_read_behind_the_configuration() -> None:
    """Only the roots look at the environment; `version` at what the image was built from."""
    readers = {
        module for module in SOURCES if within(module, {"service"}) and "os.environ" in ast.unparse(tree(module))
    }

    assert readers == {"service.app", "service.cli.command", "service.cli.main", "service.cli.sink", "service.version"}


def test_the_top_level_is_closed() -> None:
    found = {path.name for path in ROOT.iterdir()} - MADE_BY_TOOLS

    assert {name for name in found if not name.endswith(".egg-info")} <= TOP_LEVEL
