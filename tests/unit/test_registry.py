"""What a schema registry is told is the contract, in words that all of them know. A real one: `make registry`."""

from __future__ import annotations

from pathlib import Path

import orjson
from jsonschema import Draft7Validator

from schemas import generate
from schemas.catalogue import Catalogue

GENERATED = Path(generate.__file__).parent / "generated"
VERSION = orjson.loads((GENERATED / "registry.version.json").read_bytes())


def test_a_version_is_the_event_in_draft_07() -> None:
    assert VERSION.keys() == {"schemaType", "schema"}
    schema = orjson.loads(VERSION["schema"])
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    Draft7Validator.check_schema(schema)
    example = orjson.loads((GENERATED.parent / "examples" / "event.json").read_bytes())
    assert Draft7Validator(schema).is_valid(example)
    assert not Draft7Validator(schema).is_valid(example | {"kind": "other"})


def test_every_topic_has_its_subject() -> None:
    subjects = (GENERATED / "registry.subjects.txt").read_text(encoding="utf-8").splitlines()
    assert subjects == sorted(f"{topic}-value" for topic in Catalogue.load().topics)
