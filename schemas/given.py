"""What a sender has given: nothing is said in several ways, and each of them reads as if it had been left out.

Most serializers write what they do not have as `null`, at every depth; others as `""`. So a field that is null was not
given, nor was a code, a word or a reference that is "" (a text may be empty; lists and `extra` are what they are), nor
an object in which nothing is left but empty texts. What we do not know and the items of a list stay as they are.
"""

from collections.abc import Callable
from typing import Any

from marshmallow import Schema, fields

from schemas.fields import Items, Leaf, Part, Text


class Given:
    """Takes a value meant as an object of `schema`, and returns it without what was not given in it."""

    def __init__(self, schema: Schema) -> None:
        found = schema.load_fields
        self._known = found.keys()
        self._codes = {name for name, field in found.items() if isinstance(field, Leaf) and field.empty_is_nothing}
        self._texts = {name for name, field in found.items() if isinstance(field, Text)}
        self._inside = {name: inside for name, field in found.items() if (inside := _inside(field))}

    def __call__(self, data: object) -> Any:
        """A new object; what is none comes back as it is."""
        if not isinstance(data, dict):
            return data
        looked_into = {
            name: self._inside[name](value) if name in self._inside else value for name, value in data.items()
        }
        return {name: value for name, value in looked_into.items() if not self._is_nothing(name, value)}

    def part(self, data: object) -> Any:
        """As a part of another object: None if it says nothing."""
        given = self(data)
        says_nothing = isinstance(given, dict) and all(given[name] == "" and name in self._texts for name in given)
        return None if says_nothing else given

    def _is_nothing(self, name: str, value: object) -> bool:
        return (value is None and name in self._known) or (value == "" and name in self._codes)


def _inside(field: fields.Field[Any]) -> Callable[[object], Any] | None:
    if isinstance(field, Part):
        return Given(field.schema).part
    if isinstance(field, Items) and isinstance(field.inner, Part):
        item = Given(field.inner.schema)
        return lambda value: [item(one) for one in value] if isinstance(value, list) else value
    return None
