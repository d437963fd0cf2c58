"""Two JSON Schemas of one thing, an earlier and a later one: what the later breaks.

What we *take* (reports, parameters) must stay valid: it may only widen. What we *give* (messages, headers, answers)
must stay readable: nothing that was there goes or changes, more may come. A keyword that has no order (a pattern, a
format, a condition) is compared as it stands: a doubt is a break.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from schemas.fields import Json

OPEN_LISTS = {"Code", "FieldCode"}  # of what we give: words may come here. All other lists are closed.

ANNOTATIONS = {"$schema", "$id", "title", "description", "summary", "examples", "example", "$comment"}
UPPER = {"maxLength", "maximum", "maxItems", "maxProperties"}  # a greater one takes more
LOWER = {"minLength", "minimum", "minItems", "minProperties"}
STRUCTURE = {"type", "enum", "properties", "required", "additionalProperties", "items", "anyOf", "oneOf", "$ref"}

Breaks = Iterator[str]


class Shapes:
    """Compares the JSON Schemas of two documents, from the side of whoever `takes` or gets them."""

    def __init__(self, old: Json, new: Json, *, takes: bool) -> None:
        self.old, self.new, self.takes = old, new, takes
        self._under_way: set[tuple[str, str]] = set()

    def compare(self, old: Json, new: Json, at: str) -> Breaks:
        """What `new` breaks of `old`, one line each."""
        names = str(old.get("$ref", at)), str(new.get("$ref", at))
        if "$ref" in old and names in self._under_way:
            return
        self._under_way.add(names)
        word = names[0].rpartition("/")[2]
        old, new = found(self.old, old), found(self.new, new)
        yield from self._types(old, new, at)
        yield from self._words(old, new, at, is_open=word in OPEN_LISTS)
        yield from self._members(old, new, at)
        yield from self._ways(old, new, at)
        yield from self._constraints(old, new, at)
        if "items" in old:
            yield from self.compare(old["items"], new.get("items", {}), f"{at}[]")
        self._under_way.discard(names)

    def _types(self, old: Json, new: Json, at: str) -> Breaks:
        before, now = _types(old), _types(new)
        if not (before <= now if self.takes else now <= before):
            yield f"{at}: type was {_listed(before)}, is {_listed(now)}"

    def _words(self, old: Json, new: Json, at: str, *, is_open: bool) -> Breaks:
        if "enum" not in old:
            if "enum" in new and self.takes:
                yield f"{at}: was any value, is a list of words"
            return
        before, now = _distinct(old["enum"]), _distinct(new.get("enum", []))
        if "enum" not in new and self.takes:
            return
        for word in sorted(before - now):
            yield f"{at}: the word {word} is gone"
        if not (self.takes or is_open):
            for word in sorted(now - before):
                yield f"{at}: the new word {word} is unknown to who reads this closed list"

    def _members(self, old: Json, new: Json, at: str) -> Breaks:
        before, now = old.get("properties", {}), new.get("properties", {})
        for name in before:
            if name in now:
                yield from self.compare(before[name], now[name], f"{at}.{name}")
            else:
                yield f"{at}.{name}: the field is gone"
        demanded, demands = set(old.get("required", [])), set(new.get("required", []))
        if self.takes:
            yield from (f"{at}.{name}: is required now" for name in sorted(demands - demanded))
            if "additionalProperties" in new and "additionalProperties" not in old:
                yield f"{at}: takes no unknown fields any more"
        else:
            yield from (f"{at}.{name}: was always there, is optional now" for name in sorted(demanded - demands))

    def _ways(self, old: Json, new: Json, at: str) -> Breaks:
        for keyword in ("anyOf", "oneOf"):
            before, now = old.get(keyword, []), new.get(keyword, [])
            fewer, more = (before, now) if self.takes else (now, before)
            if len(fewer) > len(more) or bool(before) != bool(now):
                yield f"{at}: {len(before)} ways of {keyword}, now {len(now)}"
            for number, (one, other) in enumerate(zip(before, now, strict=False)):
                yield from self.compare(one, other, f"{at}({keyword} {number})")

    def _constraints(self, old: Json, new: Json, at: str) -> Breaks:
        for keyword in sorted((old.keys() | new.keys()) - STRUCTURE - ANNOTATIONS):
            before, now = old.get(keyword), new.get(keyword)
            if before == now or (
                now is None if self.takes else before is None
            ):  # one that goes widens, one that comes narrows
                continue
            if not (before is not None and now is not None and self._moves_well(keyword, before, now)):
                yield f"{at}: {keyword} was {before}, is {now}"

    def _moves_well(self, keyword: str, before: Any, now: Any) -> bool:
        grows = now >= before if keyword in UPPER else now <= before if keyword in LOWER else None
        return grows is self.takes if grows is not None else False


def found(document: Json, part: Json) -> Json:
    """The part itself, or what it refers to in its document."""
    while "$ref" in part:
        target: Any = document
        for name in part["$ref"].removeprefix("#/").split("/"):
            target = target[name.replace("~1", "/").replace("~0", "~")]
        part = target
    return part


def _types(shape: Json) -> set[str]:
    named = shape.get("type", ["array", "boolean", "null", "number", "object", "string"])
    return {named} if isinstance(named, str) else set(named)


def _distinct(words: Sequence[Any]) -> set[str]:
    return {orjson.dumps(word).decode() for word in words}


def _listed(words: set[str]) -> str:
    return " or ".join(sorted(words))
