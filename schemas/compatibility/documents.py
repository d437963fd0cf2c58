"""Two OpenAPI or AsyncAPI documents, an earlier and a later one: what the later breaks."""

from collections.abc import Sequence
from typing import Any

from schemas.compatibility.shapes import Breaks, Shapes, found
from schemas.fields import Json

METHODS = ("get", "put", "post", "delete", "patch", "head", "options")


def asyncapi_breaks(old: Json, new: Json) -> Breaks:
    """Topics, operations, and of the messages: key, headers, payload, media type."""
    given = Shapes(old, new, takes=False)
    before, now = _topics(old), _topics(new)
    for topic in sorted(before.keys() - now.keys()):
        yield f"topic {topic} is gone"
    yield from (f"operation {name} is gone" for name in sorted(old["operations"].keys() - new["operations"].keys()))
    for topic in sorted(before.keys() & now.keys()):
        for name, message in before[topic].items():
            if name not in now[topic]:
                yield f"topic {topic}: its message {name} is gone"
                continue
            yield from _message_breaks(given, found(old, message), found(new, now[topic][name]), f"message {name}")


def _message_breaks(given: Shapes, old: Json, new: Json, at: str) -> Breaks:
    yield from given.compare(old["headers"], new.get("headers", {}), f"{at}: header ")
    yield from given.compare(old["payload"], new.get("payload", {}), f"{at}: payload")
    yield from given.compare(_key(old), _key(new), f"{at}: key")
    yield from _same(old, new, ("contentType",), at)


def _key(message: Json) -> Json:
    shape: Json = message.get("bindings", {}).get("kafka", {}).get("key", {})
    return shape


def _topics(document: Json) -> dict[str, Json]:
    return {channel["address"]: channel["messages"] for channel in document["channels"].values()}


def openapi_breaks(old: Json, new: Json) -> Breaks:
    """Paths and methods, what each takes and gives, who may, and what each code means."""
    yield from _same(old, new, ("servers",), "API")
    for path, item in old["paths"].items():
        for method in METHODS:
            if method not in item:
                continue
            if (now := new["paths"].get(path, {}).get(method)) is None:
                yield f"{method.upper()} {path} is gone"
            else:
                yield from _operation_breaks((old, item[method]), (new, now), f"{method.upper()} {path}")
    for name, scheme in old["components"]["securitySchemes"].items():
        yield from _same(scheme, new["components"]["securitySchemes"].get(name, {}), ("type", "scheme"), f"key {name}")
    meanings = _meanings(new)
    for code, meaning in _meanings(old).items():
        if code in meanings and meanings[code] != meaning:
            yield f"code {code}: (status, retryable) was {meaning}, is {meanings[code]}"


def _operation_breaks(old: tuple[Json, Json], new: tuple[Json, Json], at: str) -> Breaks:
    before, now = old[1], new[1]
    yield from _same(before, now, ("operationId",), at)
    for way in before.get("security", []):
        if way not in now.get("security", []):
            yield f"{at}: may not be called with {way or 'no key'} any more"
    if not before.get("security") and now.get("security") and {} not in now["security"]:
        yield f"{at}: needs a key now"
    yield from _parameter_breaks(old, new, at)
    yield from _body_breaks(old, new, at)
    yield from _response_breaks(old, new, at)


def _parameter_breaks(old: tuple[Json, Json], new: tuple[Json, Json], at: str) -> Breaks:
    before, now = _parameters(*old), _parameters(*new)
    taken = Shapes(old[0], new[0], takes=True)
    for key, parameter in before.items():
        if key not in now:
            yield f"{at}: parameter {' '.join(key)} is gone"
        else:
            yield from taken.compare(parameter["schema"], now[key]["schema"], f"{at}: parameter {key[1]}")
    for key, parameter in now.items():
        if parameter.get("required") and not before.get(key, {}).get("required"):
            yield f"{at}: parameter {' '.join(key)} is required now"


def _parameters(document: Json, operation: Json) -> dict[tuple[str, str], Json]:
    listed = [found(document, parameter) for parameter in operation.get("parameters", [])]
    return {(parameter["in"], parameter["name"]): parameter for parameter in listed}


def _body_breaks(old: tuple[Json, Json], new: tuple[Json, Json], at: str) -> Breaks:
    before, now = (found(document, operation.get("requestBody", {})) for document, operation in (old, new))
    if now.get("required") and not before.get("required"):
        yield f"{at}: a body is required now"
    yield from _content_breaks(Shapes(old[0], new[0], takes=True), before, now, f"{at}: body")


def _response_breaks(old: tuple[Json, Json], new: tuple[Json, Json], at: str) -> Breaks:
    given = Shapes(old[0], new[0], takes=False)
    before, now = old[1]["responses"], new[1]["responses"]
    for status in sorted(now.keys() - before.keys()):
        if status < "4":
            yield f"{at}: answers {status}, which nobody expects"
    for status, response in before.items():
        if status not in now:
            yield f"{at}: never answers {status} any more"
            continue
        one, other = found(old[0], response), found(new[0], now[status])
        for name in one.get("headers", {}):
            if name not in other.get("headers", {}):
                yield f"{at}: {status} without the header {name}"
        yield from _content_breaks(given, one, other, f"{at}: {status}")


def _content_breaks(shapes: Shapes, old: Json, new: Json, at: str) -> Breaks:
    for media, content in old.get("content", {}).items():
        if media not in new.get("content", {}):
            yield f"{at}: {media} is gone"
        else:
            now = new["content"][media]
            yield from shapes.compare(content.get("schema", {}), now.get("schema", {}), f"{at} {media}")


def _meanings(part: Any) -> dict[str, tuple[int, bool]]:
    """Every code with its status and whether it is worth another try, as the examples of problems show them."""
    if isinstance(part, list):
        part = dict(enumerate(part))
    if not isinstance(part, dict):
        return {}
    known = {}
    if str(part.get("type")).startswith("urn:") and {"code", "status", "retryable"} <= part.keys():
        known[part["code"]] = (part["status"], part["retryable"])
    for below in part.values():
        known |= _meanings(below)
    return known


def _same(old: Json, new: Json, names: Sequence[str], at: str) -> Breaks:
    for name in names:
        if old.get(name) != new.get(name):
            yield f"{at}: {name} was {old.get(name)}, is {new.get(name)}"
