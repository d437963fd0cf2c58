"""The contract as released, beside what the code says now.

`python -m schemas.compatibility`            every promise of the released v1 that is broken; exit status 1 if any
`python -m schemas.compatibility --release`  freeze what the code says now as v1, if it keeps all that v1 has promised
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import orjson

from schemas import generate
from schemas.compatibility.documents import asyncapi_breaks, openapi_breaks
from schemas.compatibility.shapes import Breaks, Shapes
from schemas.fields import Json

RELEASED = Path(generate.__file__).parent / "released" / "v1"


def report_breaks(old: Json, new: Json) -> Breaks:
    """The JSON Schema of what senders write."""
    yield from Shapes(old, new, takes=True).compare(old, new, "report")


def event_breaks(old: Json, new: Json) -> Breaks:
    """The JSON Schema of what consumers read."""
    yield from Shapes(old, new, takes=False).compare(old, new, "event")


COMPARED: Mapping[str, Callable[[Json, Json], Breaks]] = {
    "report.schema.json": report_breaks,
    "event.schema.json": event_breaks,
    "openapi.json": openapi_breaks,
    "asyncapi.yaml": asyncapi_breaks,
}


def read(content: bytes, name: str) -> Json:
    """An artefact as it lies on disk."""
    if not name.endswith(".yaml"):
        document: Json = orjson.loads(content)
        return document
    import yaml  # noqa: PLC0415 - only a development machine has it

    return dict(yaml.safe_load(content))


def broken(released: Path = RELEASED) -> list[str]:
    """All that the code breaks of what was released."""
    breaks: dict[str, None] = {}  # a set that keeps its order: topics share their message
    for name, compare in COMPARED.items():
        old, new = read((released / name).read_bytes(), name), read(generate.ARTEFACTS[name](), name)
        breaks |= dict.fromkeys(f"{name}: {line}" for line in compare(old, new))
    return list(breaks)


def main(arguments: Sequence[str], released: Path = RELEASED) -> int:
    """Exit status 1 if v1 is broken; with `--release`, else freeze it as it is now."""
    breaks = broken(released)
    for line in breaks:
        sys.stderr.write(f"v1 broken: {line}\n")
    if "--release" in arguments and not breaks:
        for name in COMPARED:
            (released / name).write_bytes(generate.ARTEFACTS[name]())
    return int(bool(breaks))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
