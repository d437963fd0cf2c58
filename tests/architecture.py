"""The house as a table: which room may import which. `python -m tests.architecture [--check]` draws it into the README.

A room is a package, or a module that stands for itself; a module belongs to the room with the longest name that its
own name begins with. The rooms are listed from the ground up: each may import only what stands above it in the table.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "service" / "README.md"
BEGIN, END = "<!-- rooms: written by `make generate` -->", "<!-- end of rooms -->"

SCHEMAS = "schemas schemas.catalogue"
ROOMS: dict[str, set[str]] = {
    room: set(may_import.split())
    for room, may_import in {
        "schemas": "",
        "schemas.catalogue": "schemas",
        "schemas.openapi": "schemas",
        "schemas.asyncapi": SCHEMAS,
        "schemas.registry": f"{SCHEMAS} schemas.asyncapi",
        "schemas.generate": f"{SCHEMAS} schemas.asyncapi schemas.openapi schemas.registry",
        "schemas.compatibility": "schemas schemas.generate",
        "deploy.kafka": "",
        "deploy.demo": "",
        "deploy.signing": "",
        "deploy.generated": "schemas.catalogue",
        "deploy.grafana": "schemas.catalogue deploy.generated",
        "service.version": "",
        "service.config": "",
        "deploy.docs": "schemas service.config",
        "service.ports": "",
        "service.files": "",
        "service.gate": "",
        "service.logs": "",
        "service.processes": "",
        "service.ops": "",
        "service.watchdog": "",
        "service.peers": "service.ops",
        "service.docs": "",
        "service.metrics": "service.ports service.version",
        "service.audit": "schemas service.files",
        "service.domain": SCHEMAS,
        "service.consumer": "",
        "service.simulate": SCHEMAS,
        "service.broker": "schemas service.config service.consumer service.ports",
        "deploy.kubernetes": "deploy.generated schemas.catalogue service.config service.broker",
        "service.journal": "schemas service.files service.gate service.ports",
        "service.quarantine": "schemas service.journal service.ports",
        "service.intake": f"{SCHEMAS} service.config service.domain service.files service.gate service.metrics"
        " service.ops service.ports",
        "service.relay": "service.metrics service.ops service.ports",
        "service.cases": f"{SCHEMAS} service.config service.domain service.intake service.journal service.ports",
        "service.storage": "service.cases service.config service.domain service.journal service.ports service.relay",
        "service.sink": f"{SCHEMAS} service.consumer service.domain",
        "service.app": f"{SCHEMAS} service.config service.ports service.docs service.domain service.metrics service.ops"
        " service.watchdog service.peers service.processes service.audit service.journal service.quarantine"
        " service.intake service.broker service.relay service.cases service.storage",
        "service.cli": f"{SCHEMAS} service.version service.config service.ports service.logs service.peers"
        " service.processes service.metrics service.audit service.domain service.simulate service.journal"
        " service.quarantine service.intake service.broker service.relay service.cases service.app"
        " service.consumer service.ops service.watchdog service.sink service.storage",
    }.items()
}

SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("schemas", "service", "deploy")
    for path in sorted((ROOT / package).rglob("*.py"))
}


@cache
def tree(module: str) -> ast.Module:
    """A module's syntax."""
    return ast.parse(SOURCES[module].read_text(encoding="utf-8"))


@cache
def named(module: str) -> frozenset[str]:
    """Every module that a module names in an import, also inside functions; ours as far down as they go."""
    return frozenset(name for names, _ in _imported(module) for name in names)


@cache
def imports(module: str) -> frozenset[str]:
    """Our modules that importing a module needs: those it names, and the packages it takes them from."""
    return frozenset(name for names, base in _imported(module) for name in {*names, base}) & SOURCES.keys() - {module}


def _imported(module: str) -> Iterator[tuple[set[str], str]]:
    here = module if SOURCES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (({alias.name}, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = here.split(".")[: len(here.split(".")) - node.level + 1] if node.level else []
            base = ".".join(filter(None, [*above, node.module]))
            yield {f"{base}.{alias.name}" for alias in node.names} & SOURCES.keys() or {base}, base


def room(module: str) -> str | None:
    """The room that a module is in; None: it has none."""
    return max((one for one in ROOMS if f"{module}.".startswith(f"{one}.")), key=len, default=None)


def arrows() -> dict[str, set[str]]:
    """room → the rooms that its modules really import."""
    found: dict[str, set[str]] = {one: set() for one in ROOMS}
    for module in SOURCES:
        if (here := room(module)) is not None:
            found[here] |= {there for name in named(module) & SOURCES.keys() if (there := room(name))} - {here}
    return found


def circles(graph: Mapping[str, Iterable[str]]) -> list[set[str]]:
    """The strongly connected components of more than one member."""

    @cache
    def reached(start: str) -> frozenset[str]:
        seen, left = set[str](), [start]
        while left:
            new = set(graph[left.pop()]) - seen
            seen |= new
            left += new
        return frozenset(seen)

    together = {frozenset(other for other in reached(one) if one in reached(other)) for one in graph}
    return [set(members) for members in together if len(members) > 1]


def job(name: str) -> str:
    """The first sentence of a room's docstring: its one job."""
    said = ast.get_docstring(tree(name)) or ""
    return said.split("\n\n")[0].replace("\n", " ") if name in SOURCES else ""


def picture() -> str:
    """The rooms of the service as a table, and its arrows; those that follow from others are left out."""
    real = arrows()
    ours = [one for one in ROOMS if one.startswith("service.")]
    lines = ["```mermaid", "flowchart TB"]
    for one in reversed(ours):
        seen = {further for there in real[one] for further in _beyond(there, real)}
        lines += [f"  {_short(one)} --> {_short(there)}" for there in ours if there in real[one] - seen]
    lines += ["```", "", "| room | its one job | imports |", "|---|---|---|"]
    for one in reversed(ours):
        there = " ".join(_short(name) for name in ROOMS if name in real[one])
        path = f"{_short(one)}/" if SOURCES[one].name == "__init__.py" else f"{_short(one)}.py"
        lines.append(f"| `{path}` | {job(one)} | {there or '–'} |")
    return "\n".join(lines)


def _beyond(start: str, graph: Mapping[str, set[str]]) -> set[str]:
    return graph[start].union(*(_beyond(there, graph) for there in graph[start]))


def _short(name: str) -> str:
    return name.removeprefix("service.")


def page() -> str:
    """`service/README.md` as it should be."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{picture()}\n\n{END}{after}"


if __name__ == "__main__":
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        sys.exit("service/README.md does not show the rooms as they are: make generate")
