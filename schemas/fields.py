"""Leaf fields of the contract: each checks one JSON value completely and says what JSON Schema can say of it.

marshmallow's own leaves are too kind for a contract: `Regexp("…$")` takes a trailing newline, `\\d` full-width digits,
`Float` the text "1e3", `Str` a lone surrogate. A leaf here raises ValidationError holding Flaws, never the value.
"""

import math
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, TypeVar

from marshmallow import Schema, ValidationError, fields
from marshmallow.types import ErrorMessages

from schemas import wire
from schemas.reasons import Reason
from schemas.times import CANONICAL, EARLIEST_MS, TIME, parse_time

T = TypeVar("T")
Json = dict[str, Any]  # a JSON Schema

_PRINTED = r"[^\u0000-\u0008\u000b-\u001f\u007f-\u009f]"
CLEAN = f"^{_PRINTED}*$"
CLEAN_AS_SENT = rf"^(?:{_PRINTED}|\r\n)*$"
HTTPS = (
    r"https://(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
    r"(?:[/?#][A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*)?"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
# In the canonical spelling: an escape, a control character written as it is, a float that may be a whole number.
_ODD = re.compile(rb"\\|\x7f|\xc2[\x80-\x9f]|\.0(?!\d)|\de")
_HTTPS = re.compile(HTTPS)
_BUILT_IN: ErrorMessages = {"required": Reason.REQUIRED, "null": Reason.NULL}


class Flaw(NamedTuple):
    """What is wrong with one value: the reason, and the limits or choices its text names."""

    reason: Reason
    params: Mapping[str, object] = MappingProxyType({})


def flawed(reason: Reason, **params: object) -> ValidationError:
    return ValidationError([Flaw(reason, params)])


class Leaf(fields.Field[T]):
    """A field that checks everything in `_deserialize`. `empty_is_nothing`: "" means that it was not given."""

    default_error_messages = _BUILT_IN
    empty_is_nothing: ClassVar[bool] = False

    def _validate(self, value: Any) -> None:
        """Nothing is left to do; marshmallow would build an empty list of validators on each call."""

    def json_schema(self) -> Json:
        """What JSON Schema 2020-12 can say of the value."""
        raise NotImplementedError

    def as_sent(self) -> Json:
        """The same of what a sender may write, where that is more than we pass on."""
        return self.json_schema()


class Text(Leaf[str]):
    """A string of `least` to `most` characters, not blank if `least`; newline and tab are its only controls.

    CR LF, which every browser's text area sends, is read as one newline.
    """

    def __init__(self, most: int, *, least: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.most = most
        self.least = least

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        if not isinstance(value, str):
            raise flawed(Reason.WRONG_TYPE, expected="string")
        text: str = value.replace("\r\n", "\n")
        if len(text) > self.most:
            raise flawed(Reason.TOO_LONG, limit=self.most)
        if self.least and len(text.strip()) < self.least:
            raise flawed(Reason.TOO_SHORT, limit=self.least)
        if text.isprintable():  # the ordinary case, at C speed
            return text
        if flaw := _unclean(text):
            raise ValidationError([flaw])
        return text

    def json_schema(self) -> Json:
        blank = {"minLength": self.least, "allOf": [{"pattern": r"\S"}]} if self.least else {}
        return {"type": "string", "maxLength": self.most, "pattern": CLEAN} | blank

    def as_sent(self) -> Json:
        """To JSON Schema CR LF is two characters; what keeps to that keeps to our limit."""
        return self.json_schema() | {"pattern": CLEAN_AS_SENT}


class Reference(Text):
    """A text by which something is called elsewhere; an empty one calls nothing."""

    empty_is_nothing = True

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        if value == "":
            raise flawed(Reason.TOO_SHORT, limit=1)
        return super()._deserialize(value)


class Code(Leaf[str]):
    """A string that a pattern matches as a whole; the pattern means the same to Python and to ECMA-262."""

    empty_is_nothing = True

    def __init__(self, pattern: str, **options: Any) -> None:
        super().__init__(**options)
        self.pattern = pattern
        self._matches = re.compile(pattern).fullmatch

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        if not isinstance(value, str):
            raise flawed(Reason.WRONG_TYPE, expected="string")
        if not self._matches(value):
            raise flawed(Reason.BAD_FORMAT, pattern=self.pattern)
        return value

    def json_schema(self) -> Json:
        return {"type": "string", "pattern": f"^(?:{self.pattern})$"}


class OneOf(Leaf[str]):
    """A word of a closed list, case included."""

    empty_is_nothing = True

    def __init__(self, words: type[StrEnum], **options: Any) -> None:
        super().__init__(**options)
        self.choices = tuple(word.value for word in words)
        self._known = frozenset(self.choices)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        if not isinstance(value, str):
            raise flawed(Reason.WRONG_TYPE, expected="string")
        if value not in self._known:
            raise flawed(Reason.NOT_ALLOWED, choices=self.choices)
        return value

    def json_schema(self) -> Json:
        return {"type": "string", "enum": list(self.choices)}


class Moment(Leaf[int]):
    """A time in any spelling we know, as epoch milliseconds. A JSON number has no spelling: 1e3 is 1000."""

    empty_is_nothing = True

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        ms = _milliseconds(value)
        if ms < EARLIEST_MS:
            raise flawed(Reason.OUT_OF_RANGE, least="2000-01-01T00:00:00Z", most="now")
        return ms

    def json_schema(self) -> Json:
        return {"anyOf": [{"type": "string", "pattern": f"^{TIME}$"}, {"type": "integer", "minimum": EARLIEST_MS}]}


class Instant(Leaf[str]):
    """A time in the one spelling we write ourselves: UTC with milliseconds."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(CANONICAL, value):
            raise flawed(Reason.BAD_TIME)
        return value

    def json_schema(self) -> Json:
        return {"type": "string", "format": "date-time", "pattern": f"^{CANONICAL}$"}


class Number(Leaf[int | float]):
    """A finite JSON number, an int if it is integral. Its range depends on other fields."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int | float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise flawed(Reason.WRONG_TYPE, expected="number")
        if isinstance(value, float) and not math.isfinite(value):
            raise flawed(Reason.NOT_FINITE)
        number: int | float = wire.normal(value)
        return number

    def json_schema(self) -> Json:
        return {"type": "number"}


class HttpsUrl(Leaf[str]):
    """An absolute https URL of ASCII characters without user info. Nobody fetches it."""

    most = 2048
    empty_is_nothing = True

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        if not isinstance(value, str):
            raise flawed(Reason.WRONG_TYPE, expected="string")
        if len(value) > self.most:
            raise flawed(Reason.TOO_LONG, limit=self.most)
        if not _HTTPS.fullmatch(value):
            raise flawed(Reason.BAD_URL)
        return value

    def json_schema(self) -> Json:
        return {"type": "string", "format": "uri", "maxLength": self.most, "pattern": f"^{HTTPS}$"}


class FreeObject(Leaf[dict[str, Any]]):
    """Any JSON object of at most `most` bytes in its canonical spelling and `levels` levels, itself the first.

    What is in it is passed through: null, "" and all; but CR LF in its texts is read as one newline there too.
    """

    def __init__(self, *, most: int, levels: int, **options: Any) -> None:
        super().__init__(**options)
        self.most = most
        self.levels = levels

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise flawed(Reason.WRONG_TYPE, expected="object")
        passed: dict[str, Any] = wire.normal(value)
        if reasons := set(_inner_flaws(passed, self.levels)):
            raise ValidationError([Flaw(reason, self._limits(reason)) for reason in sorted(reasons)])
        if len(wire.encode(passed)) > self.most:
            raise flawed(Reason.TOO_LARGE, limit=self.most)
        return passed

    def surely_passes(self, spelt: bytes) -> bool:
        """Whether what somebody's JSON was, spelt by `wire.encode`, is passed through as it is; False is a doubt."""
        levels = spelt.count(b"{") + spelt.count(b"[")  # at most
        return spelt[:1] == b"{" and levels <= self.levels and len(spelt) <= self.most and not _ODD.search(spelt)

    def _limits(self, reason: Reason) -> dict[str, object]:
        limits: dict[Reason, dict[str, object]] = {
            Reason.TOO_DEEP: {"limit": self.levels},
            Reason.OUT_OF_RANGE: {"least": "-2^63", "most": "2^64-1"},
            Reason.WRONG_TYPE: {"expected": "JSON"},
        }
        return limits.get(reason, {})

    def json_schema(self) -> Json:
        return {"type": "object"}


class Truth(Leaf[bool]):
    """The constant `true`; a fact that is not so is left out."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if value is not True:
            raise flawed(Reason.NOT_ALLOWED, choices=("true",))
        return value

    def json_schema(self) -> Json:
        return {"const": True}


class Part(fields.Nested):
    """An object inside an object."""

    default_error_messages = _BUILT_IN


class Items(fields.List[Any]):
    """A JSON array of at most `most`; if it is longer, its items are not looked at."""

    default_error_messages = _BUILT_IN

    def __init__(self, inner: fields.Field[Any], *, most: int, **options: Any) -> None:
        super().__init__(inner, **options)
        self.most = most

    def _deserialize(self, value: Any, *args: Any, **options: Any) -> list[Any]:
        if not isinstance(value, list):
            raise flawed(Reason.WRONG_TYPE, expected="array")
        if len(value) > self.most:
            raise flawed(Reason.TOO_MANY_ITEMS, limit=self.most)
        return super()._deserialize(value, *args, **options)


class Closed(Schema):
    """An object without unknown fields. `rules`: what JSON Schema should add about fields taken together."""

    rules: ClassVar[Json] = {}
    error_messages = {"unknown": Reason.UNKNOWN_FIELD, "type": Reason.WRONG_TYPE}  # noqa: RUF012  # as declared


def _milliseconds(value: Any) -> int:
    if isinstance(value, str):
        try:
            return parse_time(value)
        except ValueError:
            raise flawed(Reason.BAD_TIME) from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise flawed(Reason.WRONG_TYPE, expected="string or integer")
    if isinstance(value, float) and not value.is_integer():  # which infinity and NaN are not either
        raise flawed(Reason.BAD_TIME)
    return int(value)


def _unclean(text: str) -> Flaw | None:
    if _SURROGATE.search(text):
        return Flaw(Reason.LONE_SURROGATE)
    return Flaw(Reason.CONTROL_CHARACTER) if _CONTROL.search(text) else None


def _inner_flaws(value: Any, room: int) -> Iterator[Reason]:
    """Why a free value cannot be passed on: what the parser refuses is refused again, for callers without it."""
    if isinstance(value, dict | list):
        if not room:
            yield Reason.TOO_DEEP
            return
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from _inner_flaws(item, room - 1)
    elif isinstance(value, str):
        if flaw := _unclean(value):
            yield flaw.reason
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield Reason.NOT_FINITE
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            yield Reason.OUT_OF_RANGE
    elif value is not None:
        yield Reason.WRONG_TYPE
