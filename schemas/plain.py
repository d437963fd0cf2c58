"""The ordinary object, taken without marshmallow's machinery: the same leaf fields, called one after the other.

marshmallow's own walk costs ten times what the leaves do. Where every given field is known and right, its result is
known without it: what each leaf made of its value, and the defaults of what was left out. Any doubt (an unknown or a
missing field, a value that its leaf refuses, an object that is none) is left to marshmallow, which alone decides what
is refused, and how that is told. `tests/unit/test_plain.py` holds the two to each other.
"""

from collections.abc import Callable
from typing import Any

from marshmallow import Schema, ValidationError, fields, missing

from schemas.fields import Items, Part

Take = Callable[..., Any]


class Doubt(Exception):
    """Not surely right; marshmallow must look at it."""


class Plain:
    """Loads what is plainly valid by `schema`, as the schema itself would load it. Raises `Doubt` for anything else."""

    def __init__(self, schema: Schema) -> None:
        found = schema.load_fields
        self._take = {name: _take(field) for name, field in found.items()}
        self._required = {name for name, field in found.items() if field.required}
        self._defaults = {
            name: field.load_default for name, field in found.items() if field.load_default is not missing
        }

    def __call__(self, data: object) -> dict[str, Any]:
        """What was loaded, in the order it was given."""
        if type(data) is not dict:
            raise Doubt
        take = self._take
        try:
            taken = {name: take[name](value) for name, value in data.items()}
        except (KeyError, ValidationError) as error:
            raise Doubt from error
        if not self._required <= taken.keys():
            raise Doubt
        if not any(taken.values()):  # an object that says nothing
            raise Doubt
        return self._defaults | taken


def _take(field: fields.Field[Any]) -> Take:
    if isinstance(field, Part):
        return Plain(field.schema)
    if isinstance(field, Items):
        return _several(_take(field.inner), field.most)
    return field._deserialize  # what marshmallow calls with the value, and with things that no leaf of ours looks at


def _several(take: Take, most: int) -> Take:
    def take_all(value: object) -> list[Any]:
        if type(value) is not list or len(value) > most:
            raise Doubt
        return [take(item) for item in value]

    return take_all
