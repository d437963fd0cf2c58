"""Writes the published contract from the schemas: `python -m schemas.generate [--check]`."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
from marshmallow import Schema, fields, missing

from schemas import asyncapi
from schemas.catalogue import Catalogue
from schemas.event import EventSchema
from schemas.fields import Closed, Items, Json, Leaf
from schemas.openapi import document
from schemas.report import SCHEMA

DIRECTORY = Path(__file__).parent / "generated"


def json_schema(schema: Schema, *, closed: bool) -> Json:
    """JSON Schema of an object. `closed` refuses unknown fields: right for senders, wrong for consumers."""
    properties = {name: _field(field, closed=closed) for name, field in schema.load_fields.items()}
    required = [name for name, field in schema.load_fields.items() if field.required]
    return {
        "type": "object",
        "description": (schema.__doc__ or "").strip(),
        "properties": properties,
        **({"required": required} if required else {}),
        **({"additionalProperties": False} if closed else {}),
        **(schema.rules if isinstance(schema, Closed) else {}),
    }


def report_schema() -> Json:
    return _published("report", json_schema(SCHEMA, closed=True))


def event_schema() -> Json:
    return _published("event", json_schema(EventSchema(), closed=False))


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
    if field.load_default is not missing:
        shape["default"] = field.load_default
    return shape | dict(field.metadata)


def _shape(field: fields.Field[Any], *, closed: bool) -> Json:
    match field:
        case Leaf():
            return field.json_schema()
        case Items():
            return {"type": "array", "maxItems": field.most, "items": _field(field.inner, closed=closed)}
        case fields.Nested():
            return json_schema(field.schema, closed=closed)
    raise TypeError(f"no JSON Schema for {type(field).__name__}")


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
    "openapi.json": lambda: _pretty(document.document(report_schema())),
    "asyncapi.yaml": lambda: _yaml(asyncapi.document(event_schema(), Catalogue.load())),
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
