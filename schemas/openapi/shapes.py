"""The small shapes that answers are made of."""

from collections.abc import Iterable

from schemas.fields import Json
from schemas.report import IDENTIFIER, says
from schemas.times import CANONICAL

Field = tuple[Json, str, str]  # its shape, and what it is in Chinese and English

TEXT: Json = {"type": "string"}
COUNT: Json = {"type": "integer", "minimum": 0}
FLAG: Json = {"type": "boolean"}
ID: Json = {"type": "string", "pattern": f"^(?:{IDENTIFIER})$"}
TIME: Json = {"type": "string", "format": "date-time", "pattern": f"^{CANONICAL}$"}


def ref(name: str) -> Json:
    """A schema of the document's components."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(about: str, fields: dict[str, Field], optional: Iterable[str] = ()) -> Json:
    """An object; more members may come."""
    required = [name for name in fields if name not in optional]
    properties = {name: shape | says(zh, en) for name, (shape, zh, en) in fields.items()}
    return {"type": "object", "description": about, "properties": properties, "required": required}


def array(items: Json) -> Json:
    """A list of any length."""
    return {"type": "array", "items": items}


def or_null(shape: Json) -> Json:
    """The shape or null."""
    return {"anyOf": [shape, {"type": "null"}]}


def one_of(*words: str) -> Json:
    """A word of a list."""
    return {"type": "string", "enum": list(words)}


def named(about: str, fields: dict[str, Field]) -> Json:
    """An object with its name in both languages."""
    names: dict[str, Field] = {"zh": (TEXT, "中文名称", "Chinese name"), "en": (TEXT, "英文名称", "English name")}
    return record(about, fields | names)
