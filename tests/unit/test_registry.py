"""What a schema registry is told is the contract, in words that all of them know. A real one: `make registry`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft7Validator

from schemas import generate
from schemas.catalogue import Catalogue

GENERATED = Path(generate.__file__).parent / "generated"


EVENT = orjson.loads((GENERATED.parent / "examples" / "event.json").read_bytes())
REJECTED = {
    "rejected_at": "2020-11-04T00:00:00.000Z",
    "sender": "platform",
    "reason": "invalid",
    "problems": [{"pointer": "/kind", "code": "required"}],
    "catalogue_edition": "cjt214-2007",
    "report": None,
}


@pytest.mark.parametrize(
    ("file", "example", "wrong"),
    [
        ("registry.version.json", EVENT, {"kind": "other"}),
        ("registry.rejected.json", REJECTED, {"problems": [{"pointer": "/kind"}]}),
    ],
)
def test_a_version_is_what_is_published_in_draft_07(file: str, example: dict[str, Any], wrong: dict[str, Any]) -> None:
    version = orjson.loads((GENERATED / file).read_bytes())
    assert version.keys() == {"schemaType", "schema"}
    schema = orjson.loads(version["schema"])
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    Draft7Validator.check_schema(schema)
    assert Draft7Validator(schema).is_valid(example)
    assert not Draft7Validator(schema).is_valid(example | wrong)


def test_every_topic_has_its_subject() -> None:
    lines = [line.split() for line in (GENERATED / "registry.subjects.txt").read_text(encoding="utf-8").splitlines()]
    topics = {f"{topic}-value": "registry.version.json" for topic in Catalogue.load().topics}
    assert dict(lines) == topics | {"gridgov.rejected-value": "registry.rejected.json"}
