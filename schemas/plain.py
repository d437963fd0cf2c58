"""The ordinary object, taken without marshmallow's walk: by types that msgspec checks in C, made from the same fields.

marshmallow's own walk costs ten times what its leaves do, and these in Python three times what C does. What a type can
say of a field it says (`_checked`); the rest, of the values that need it, is left to the leaf itself (`_Finish`). Any
doubt (an unknown or a missing field, a value that its type refuses, an object that is none) is left to marshmallow,
which alone decides what is refused, and how that is told. `tests/unit/test_plain.py` holds the two to each other.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from marshmallow import Schema, ValidationError, fields, missing
from msgspec import UNSET, Meta, UnsetType

from schemas.fields import Code, HttpsUrl, Instant, Items, Number, OneOf, Part, Reference, Text

Json = dict[str, Any]
Read = Callable[..., Any]


class Doubt(Exception):
    """Not surely right; marshmallow must look at it."""


class Plain:
    """Loads what is plainly valid by `schema`, as the schema itself would load it. Raises `Doubt` for anything else."""

    def __init__(self, schema: Schema) -> None:
        self._type = _object(schema)
        self._finish = _Finish(schema)

    def __call__(self, data: object) -> Json:
        """What was loaded."""
        try:
            taken: Json = msgspec.to_builtins(msgspec.convert(data, self._type))
            self._finish(taken)
        except (ValidationError, ValueError, TypeError) as error:  # msgspec's are ValueErrors; TypeError: no JSON
            raise Doubt from error
        return taken


def _object(schema: Schema) -> type[msgspec.Struct]:
    """The type of a JSON object, of the fields in alphabetical order, as they are spelt in the end."""
    members = sorted(schema.load_fields.items())
    return msgspec.defstruct(
        type(schema).__name__,
        [_member(name, field) for name, field in members],
        forbid_unknown_fields=True,
        kw_only=True,
        gc=False,
    )


def _member(name: str, field: fields.Field[Any]) -> Any:
    taken = _checked(field) | None if field.allow_none else _checked(field)
    if field.required:
        return name, taken
    default = UNSET if field.load_default is missing else field.load_default
    return name, taken | UnsetType, default


def _checked(field: fields.Field[Any]) -> Any:  # noqa: PLR0911 - a line for each kind of field
    """The type of a field's value. It takes too much only where `_Finish` asks the leaf."""
    match field:
        case Part():
            return _object(field.schema)
        case Items():
            return Annotated[list[_checked(field.inner)], Meta(max_length=field.most)]  # type: ignore[misc]  # made here
        case Text():
            least = 1 if isinstance(field, Reference) else field.least
            return Annotated[str, Meta(min_length=least, max_length=field.most, pattern=r"\S" if field.least else None)]
        case OneOf():
            return Literal[field.choices]
        case HttpsUrl() | Code() | Instant():
            said = field.json_schema()
            return Annotated[str, Meta(max_length=said.get("maxLength"), pattern=rf"\A(?:{said['pattern']})\Z")]
        case Number():
            return int | float
    return Any


class _Finish:
    """Does in place what a type cannot: reads what is not its own spelling, looks for what must not be in a text."""

    def __init__(self, schema: Schema) -> None:
        found = schema.load_fields.items()
        reads: list[tuple[str, fields.Field[Any], Read]] = [(name, field, field._deserialize) for name, field in found]
        self._texts = [(name, read) for name, field, read in reads if isinstance(field, Text)]
        self._numbers = [(name, read) for name, field, read in reads if isinstance(field, Number)]
        self._others = [(name, read) for name, field, read in reads if _checked(field) is Any]
        self._parts = [(name, _Finish(field.schema)) for name, field in found if isinstance(field, Part)]
        inner = [(name, field.inner) for name, field in found if isinstance(field, Items)]
        items = [(name, _Finish(field.schema)) for name, field in inner if isinstance(field, Part)]
        self._items = [(name, finish) for name, finish in items if not finish.idle]
        self._may_say_nothing = not any(map(_says_something, schema.load_fields.values()))
        looks = (self._texts, self._numbers, self._others, self._parts, self._items)
        self.idle: bool = not (self._may_say_nothing or any(looks))  # the type has said all

    def __call__(self, taken: Json) -> None:
        """Raises `Doubt`, and ValidationError from a leaf."""
        given = taken.get
        for name, read in self._texts:
            text = given(name)
            if text is not None and not text.isprintable():  # at C speed; what is printable stays as it is
                taken[name] = read(text)
        for name, read in self._numbers:
            number = given(name)
            if number is not None and not 0 < number % 1 < 1:  # what has a fraction stays as it is; NaN has none
                taken[name] = read(number)
        for name, read in self._others:
            if name in taken:
                taken[name] = read(taken[name])
        for name, finish in self._parts:
            if part := given(name):
                finish.part(part)
            elif part is not None:
                raise Doubt
        for name, finish in self._items:
            for part in given(name, ()):
                finish.part(part)

    def part(self, taken: Json) -> None:
        """An object in another: one that says nothing is in doubt."""
        self(taken)
        if self._may_say_nothing and not any(taken.values()):
            raise Doubt


def _says_something(field: fields.Field[Any]) -> bool:
    """Whether the type lets nothing through that stands for nothing."""
    return field.required and (field.least > 0 if isinstance(field, Text) else isinstance(field, Code | HttpsUrl))
