"""Writes the published contract from the schemas: `python -m schemas.generate [--check]`."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
from marshmallow import Schema, fields, missing

from schemas import asyncapi, registry
from schemas.catalogue import Catalogue
from schemas.event import EventSchema
from schemas.fields import Closed, Code, Items, Json, Leaf, Text
from schemas.openapi import document
from schemas.rejected import RejectedSchema
from schemas.report import SCHEMA

DIRECTORY = Path(__file__).parent / "generated"


def json_schema(schema: Schema, *, closed: bool) -> Json:
    """JSON Schema of an object. `closed`: as senders may write it; else as consumers find it, who must expect more."""
    properties = {name: _field(field, closed=closed) for name, field in schema.load_fields.items()}
    required = [name for name, field in schema.load_fields.items() if field.required]
    return {
        "type": "object",
        "description": " ".join((schema.__doc__ or "").split()),
        "properties": properties,
        **({"required": required} if required else {}),
        **({"additionalProperties": False} if closed else {}),
        **(schema.rules if isinstance(schema, Closed) else {}),
    }


def report_schema() -> Json:
    return _published("report", json_schema(SCHEMA, closed=True))


def event_schema() -> Json:
    return _published("event", json_schema(EventSchema(), closed=False))


def rejected_schema() -> Json:
    return _published("rejected", json_schema(RejectedSchema(), closed=False))


def _published(name: str, shape: Json) -> Json:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:gridgov:schema:{name}:1",
        "title": f"gridgov {name}",
        **shape,
    }


def _field(field: fields.Field[Any], *, closed: bool) -> Json:
    shape = _shape(field, closed=closed)
    if field.allow_none:
        shape = {"anyOf": [shape, {"type": "null"}]}
    if closed and not field.required:
        shape = _or_nothing(shape, field)
    if field.load_default is not missing:
        shape["default"] = field.load_default
    return shape | dict(field.metadata)


def _shape(field: fields.Field[Any], *, closed: bool) -> Json:
    match field:
        case Leaf():
            return field.as_sent() if closed else field.json_schema()
        case Items():
            items = _shape(field.inner, closed=closed) | dict(field.inner.metadata)
            return {"type": "array", "maxItems": field.most, "items": items}
        case fields.Nested():
            return json_schema(field.schema, closed=closed)
    raise TypeError(f"no JSON Schema for {type(field).__name__}")


def _or_nothing(shape: Json, field: fields.Field[Any]) -> Json:
    """The shape, or what means that the field was not given; see `schemas.given`."""
    if shape.get("required"):
        return {"oneOf": [shape, {"type": "null"}, _says_nothing(field.schema)]}  # type: ignore[attr-defined]
    shape = shape | {"type": [shape["type"], "null"]}
    if "enum" in shape:
        shape["enum"] = [*shape["enum"], "", None]
    if isinstance(field, Code):
        shape["pattern"] = f"^$|{shape['pattern']}"
    return shape


def _says_nothing(schema: Schema) -> Json:
    """An object of nothing but fields that are not given, or of empty texts."""
    leaves = {name: field for name, field in schema.load_fields.items() if isinstance(field, Leaf)}
    ways = {
        name: ["", None] if isinstance(leaf, Text) or leaf.empty_is_nothing else [None] for name, leaf in leaves.items()
    }
    return {
        "type": "object",
        "properties": {name: {"enum": way} for name, way in ways.items()},
        "additionalProperties": False,
    }


def _pretty(value: Json) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _yaml(value: Json) -> bytes:
    import yaml  # noqa: PLC0415 - only a development machine has it

    class Readable(yaml.SafeDumper):  # type: ignore[misc]
        """Writes a text of several lines as a block."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Readable.add_representer(str, text)
    plain = orjson.loads(orjson.dumps(value))  # no enum members, and nothing twice, which YAML would write as an alias
    written: str = yaml.dump(plain, Dumper=Readable, allow_unicode=True, sort_keys=False, width=110)
    return written.encode()


ARTEFACTS: dict[str, Callable[[], bytes]] = {  # file under generated/ → its bytes
    "report.schema.json": lambda: _pretty(report_schema()),
    "event.schema.json": lambda: _pretty(event_schema()),
    "rejected.schema.json": lambda: _pretty(rejected_schema()),
    "openapi.json": lambda: _pretty(document.document(report_schema())),
    "asyncapi.yaml": lambda: _yaml(asyncapi.document(event_schema(), rejected_schema(), Catalogue.load())),
    registry.REPORTS: lambda: _pretty(registry.version(event_schema())),
    registry.REJECTED: lambda: _pretty(registry.version(rejected_schema())),
    "registry.config.json": lambda: _pretty(registry.CONFIG),
    "registry.subjects.txt": lambda: registry.subjects(Catalogue.load()),
}


def stale(directory: Path = DIRECTORY) -> list[str]:
    """Names of the artefacts that are missing or differ from what the code says now."""
    return [name for name, produce in ARTEFACTS.items() if _content(directory / name) != produce()]


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def main(arguments: Sequence[str]) -> int:
    """Exit status 1 if `--check` finds something stale; without it, write what is."""
    outdated = stale()
    check = "--check" in arguments
    for name in outdated:
        if not check:
            (DIRECTORY / name).write_bytes(ARTEFACTS[name]())
        sys.stderr.write(f"{'stale' if check else 'written'}: schemas/generated/{name}\n")
    return int(check and bool(outdated))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
