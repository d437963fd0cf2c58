"""The house rules that a reader relies on, read from the source itself."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("schemas", "service")
    for path in (ROOT / package).rglob("*.py")
}
SERVICE = sorted(name for name in SOURCES if name.startswith("service."))
TOP_LEVEL = {
    *("pyproject.toml", "service", "schemas", "tests", "deploy", "Makefile"),
    *("README.md", "README.zh-CN.md", "CHANGELOG.md", "LICENSE", "requirements.lock"),
    *(".ci", ".git", ".gitignore", ".gitattributes", ".dockerignore", ".editorconfig"),
}
MADE_BY_TOOLS = {".venv", "var", "dist", "build", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}

# What each may import of service, at most, whatever else is forbidden to none; a module missing here is only kept
# from importing in circles and from the libraries that are not its own.
MAY_IMPORT = {
    "service.ports": set[str](),
    "service.config": set[str](),
    "service.intake.keys": set[str](),
    "service.journal.writer": {"service.ports"},
    "service.journal.sqlite": {"service.ports"},
    "service.journal.journal": {"service.journal.ballast", "service.ports", "service.journal.sqlite"},
    "service.broker.publisher": {"service.ports", "service.config", "service.broker.connection"},
    "service.relay.relay": {"service.ports", "service.metrics", "service.broker.topics"},
    "service.intake.accept": {"service.ports", "service.metrics", "service.domain.meaning"},
}
LIBRARY_OF = {
    "kafka": {f"service.broker.{name}" for name in ("connection", "publisher", "topics", "consume")},
    "apsw": {"service.journal.sqlite"},
    "granian": {"service.cli.main"},
    "click": {"service.cli.main", "service.cli.cases"},
    "urllib3": {"service.cli.replay"},
}
# The command line is the root of its own small programs; salvage makes the journal that stands in for a corrupt one.
BUILDERS = {"service.app", "service.cli.main", "service.cli.cases", "service.journal.salvage"}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text(encoding="utf-8"))


@cache
def imports(module: str, *, lazy: bool = True) -> frozenset[str]:
    """The modules that `module` imports, in full; with `lazy`, also inside functions."""
    body = ast.walk(tree(module)) if lazy else iter(tree(module).body)
    found = set[str]()
    for node in body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, ["schemas.catalogue" if node.level else "", node.module]))
            inside = {f"{base}.{alias.name}" for alias in node.names} & SOURCES.keys()
            found |= inside or {base}
    return frozenset(found)


def of_service(module: str) -> set[str]:
    return {name for name in imports(module) if name.startswith("service") and name != "service.version"}


def test_schemas_know_nothing_of_the_service() -> None:
    for module in SOURCES:
        if module.startswith("schemas"):
            assert of_service(module) == set(), module


def test_the_domain_is_pure() -> None:
    allowed = sys.stdlib_module_names - {"os", "time", "logging", "socket", "random", "secrets", "subprocess"}
    for module in SERVICE:
        if module.startswith("service.domain"):
            for name in imports(module):
                assert name.split(".")[0] in allowed | {"schemas"} or name.startswith("service.domain"), (module, name)


@pytest.mark.parametrize("module", MAY_IMPORT)
def test_imports_go_one_way(module: str) -> None:
    assert of_service(module) <= MAY_IMPORT[module]


def test_nothing_imports_in_circles() -> None:
    def below(module: str, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if module in path:
            yield (*path, module)
            return
        for name in imports(module, lazy=False) & SOURCES.keys():
            yield from below(name, (*path, module))

    for module in SERVICE:
        assert next(below(module, ()), None) is None


def test_the_api_never_touches_kafka() -> None:
    def reached(module: str) -> set[str]:
        return {module}.union(*(reached(name) for name in imports(module) & SOURCES.keys()))

    for module in (
        "service.intake.api",
        "service.cases.api",
        "service.intake.accept",
        "service.journal.writer",
        "service.journal.journal",
    ):
        assert not reached(module) & LIBRARY_OF["kafka"], module


def test_only_the_roots_know_the_composition_root() -> None:
    for module in SERVICE:
        assert not {"service.app", "service.cli.main"} & of_service(module) or module.startswith("service.cli"), module


@pytest.mark.parametrize("library", LIBRARY_OF)
def test_each_library_has_its_modules(library: str) -> None:
    users = {module for module in SOURCES if any(name.split(".")[0] == library for name in imports(module))}

    assert users == LIBRARY_OF[library]


def test_only_the_composition_root_builds_the_parts() -> None:
    parts = {name for name in built_in("service.app") if any(defines(module, name) for module in SERVICE)}
    parts -= {"Stage", "Rules", "ConfigError"}  # values, not parts
    assert {"SqliteJournal", "Writer", "Intake", "Api", "Relay", "KafkaPublisher", "TopicWatch"} <= parts

    for module in set(SERVICE) - BUILDERS:
        assert built_in(module) & parts == set(), module


def built_in(module: str) -> set[str]:
    calls = (node.func for node in ast.walk(tree(module)) if isinstance(node, ast.Call))
    return {called.id for called in calls if isinstance(called, ast.Name) and called.id[:1].isupper()}


def defines(module: str, name: str) -> bool:
    return any(isinstance(node, ast.ClassDef) and node.name == name for node in tree(module).body)


def test_no_options_are_read_behind_the_configuration() -> None:
    """Only the roots look at the environment; `version` at what the image was built from."""
    readers = {module for module in SERVICE if "os.environ" in ast.unparse(tree(module))}

    assert readers <= {"service.app", "service.cli.main", "service.cli.cases", "service.version"}


def test_the_top_level_is_closed() -> None:
    found = {path.name for path in ROOT.iterdir()} - MADE_BY_TOOLS

    assert {name for name in found if not name.endswith(".egg-info")} <= TOP_LEVEL
