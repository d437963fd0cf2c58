"""The ordinary object, taken without marshmallow's walk: by types that msgspec checks in C, made from the same fields.

marshmallow's own walk costs ten times what its leaves do, and these in Python three times what C does. What a type can
say of a field it says (`_checked`); the rest, of the values that need it, is left to the leaf itself (`_finish`). Any
doubt (an unknown or a missing field, a value that its type refuses, an object that is none) is left to marshmallow,
which alone decides what is refused, and how that is told. `tests/unit/test_plain.py` holds the two to each other.
"""

from collections.abc import Callable, Collection
from copy import copy
from operator import itemgetter
from typing import Annotated, Any, Literal

import msgspec
import orjson
from marshmallow import Schema, ValidationError, fields, missing
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import astuple

from schemas import wire
from schemas.fields import Code, FreeObject, HttpsUrl, Instant, Items, Moment, Number, OneOf, Part, Reference, Text

Json = dict[str, Any]
Read = Callable[..., Any]


_INTEGER = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_NOTHING = Annotated[str, Meta(min_length=1, max_length=0)]  # no value is of this type


class Doubt(Exception):
    """Not surely right; marshmallow must look at it."""


class Plain:
    """Takes what is plainly valid by `schema`, as the schema itself would load it. Raises `Doubt` for anything else.

    It becomes an object of `type`, which has an attribute for each field, UNSET where there is none; a free object
    stands there as it is spelt. `added`: attributes for what we know about it, which no sender may give.
    """

    def __init__(self, schema: Schema, added: Collection[str] = ()) -> None:
        self.type = _object(schema, added)
        self._finish = _finish(schema)
        self._free = [name for name, field in schema.load_fields.items() if isinstance(field, FreeObject)]
        self._decode = msgspec.json.Decoder(self.type | list[self.type]).decode  # type: ignore[name-defined]  # made here

    def read(self, body: bytes) -> Any:
        """What a body spells if it is an object that may be plain, or an array of such, for a call to look at further.

        As strict a reader as `wire.parse`, which makes dicts first; what is free is spelt as that would be.
        """
        try:
            read = self._decode(body)
            for one in read if isinstance(read, list) else [read]:
                for name in self._free:
                    if (free := getattr(one, name)) is not UNSET:
                        setattr(one, name, _spelt(free))
        except (ValueError, TypeError, RecursionError) as error:  # TypeError: too deep, or an integer too big
            raise Doubt from error
        if wire.may_repeat(body, spell(read)):
            raise Doubt
        return read

    def __call__(self, data: object) -> Any:
        """What was loaded."""
        try:
            taken = copy(data) if isinstance(data, self.type) else msgspec.convert(data, self.type)
            if self._finish:
                self._finish(taken)
        except (ValidationError, ValueError, TypeError) as error:  # msgspec's are ValueErrors; TypeError: no JSON
            raise Doubt from error
        return taken

    def loaded(self, loaded: Json) -> Any:
        """The same of what the schema itself has loaded."""
        free = {name: _spelt(loaded[name]) for name in self._free if name in loaded}
        return msgspec.convert({**loaded, **free}, self.type)


spell = msgspec.json.Encoder().encode
"""What `Plain` took, in the canonical spelling: the bytes that `wire.encode` writes of the same dict.

Of floats from 1e16 on it writes others; such are in free objects only.
"""


def _object(schema: Schema, added: Collection[str] = ()) -> type[msgspec.Struct]:
    """The type of a JSON object, of the fields in alphabetical order, as they are spelt in the end."""
    members = [_member(name, field) for name, field in schema.load_fields.items()]
    members += [(name, _NOTHING | UnsetType, UNSET) for name in added]
    return msgspec.defstruct(
        type(schema).__name__,
        sorted(members, key=itemgetter(0)),
        forbid_unknown_fields=True,
        kw_only=True,
        gc=False,
    )


def _member(name: str, field: fields.Field[Any]) -> Any:
    taken = _checked(field) | None if field.allow_none else _checked(field)
    return (name, taken) if field.required else (name, taken | UnsetType, UNSET)


def _checked(field: fields.Field[Any]) -> Any:  # noqa: PLR0911 - a line for each kind of field
    """The type of a field's value. It takes too much only where `_finish` asks the leaf."""
    match field:
        case Part():
            return _object(field.schema)
        case Items():
            return Annotated[list[_checked(field.inner)], Meta(max_length=field.most)]  # type: ignore[misc]  # made here
        case Text() if field.least <= 1:
            least = 1 if isinstance(field, Reference) else field.least
            return Annotated[str, Meta(min_length=least, max_length=field.most)]
        case OneOf():
            return Literal[field.choices]
        case HttpsUrl() | Code() | Instant():
            said = field.json_schema()
            return Annotated[str, Meta(max_length=said.get("maxLength"), pattern=rf"\A(?:{said['pattern']})\Z")]
        case Number():
            return _INTEGER | float
        case Moment():
            return str | _INTEGER | float
    return Any


def _finish(schema: Schema) -> Callable[[Any], None] | None:
    """Does in place what a type cannot: reads what is not its own spelling, looks for what must not be in a text, says
    what stands where nothing was given; raises `Doubt`, and ValidationError from a leaf. None: the type has said all.

    It is written for these very fields: a loop over them costs as much as what it does for each.
    """
    lines, known = list[str](), dict[str, Any](UNSET=UNSET, Doubt=Doubt, astuple=astuple)
    for name, field in schema.load_fields.items():
        given, known[f"read_{name}"] = f"(value := taken.{name})", _read(field)
        read = f"taken.{name} = read_{name}(value)"
        inner = field.inner if isinstance(field, Items) else field
        if isinstance(field, Text):  # what is printable is neither blank nor changed
            lines.append(f"if {given} and (value[0] == ' ' or not value.isprintable()): {read}")
        if isinstance(field, Number):  # what has a fraction stays as it is; NaN has none
            lines.append(f"if {given} is not UNSET and not 0 < value % 1 < 1: {read}")
        if _is_left_to_leaf(field):
            lines.append(f"if {given} is not UNSET: {read}")
        if field.load_default is not missing:
            known[f"default_{name}"] = field.load_default
            lines.append(f"if taken.{name} is UNSET: taken.{name} = default_{name}")
        if isinstance(inner, Part) and (part := _finish(inner.schema)):
            known[f"finish_{name}"] = part
            one = f"if {given}: finish_{name}(value)"
            lines.append(one if inner is field else f"for part in taken.{name} or (): finish_{name}(part)")
    if not any(map(_says_something, schema.load_fields.values())):  # in another object it stands for nothing
        lines.append("if not any(astuple(taken)): raise Doubt")
    if not lines:
        return None
    exec("def finish(taken):\n" + "".join(f"    {line}\n" for line in lines), known)  # noqa: S102 - all of it is ours
    made: Callable[[Any], None] = known["finish"]
    return made


def _is_left_to_leaf(field: fields.Field[Any]) -> bool:
    """Whether the type says at most of what kind a value is."""
    return isinstance(field, Moment) or _checked(field) is Any


def _read(field: fields.Field[Any]) -> Read:
    return _free(field) if isinstance(field, FreeObject) else field._deserialize


def _free(field: FreeObject) -> Read:
    def read(value: Any) -> msgspec.Raw:
        if not isinstance(value, msgspec.Raw):
            return _spelt(field._deserialize(value))
        spelt = bytes(value)
        return value if field.surely_passes(spelt) else _spelt(field._deserialize(orjson.loads(spelt)))

    return read


def _spelt(free: Any) -> msgspec.Raw:
    return msgspec.Raw(memoryview(wire.encode(free)).tobytes())  # a copy: orjson's own lies in a kilobyte


def _says_something(field: fields.Field[Any]) -> bool:
    """Whether the type lets nothing through that stands for nothing."""
    return field.required and (field.least > 0 if isinstance(field, Text) else isinstance(field, Code | HttpsUrl))
