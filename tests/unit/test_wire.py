"""Strict JSON: what is refused, what is not, and that nothing else ever happens."""

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.reasons import Reason
from schemas.wire import Unreadable, canonical, normal, parse, split_ndjson

INTEGERS = st.integers(-(2**63), 2**64 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def refusal(body: bytes) -> Reason:
    with pytest.raises(Unreadable) as refused:
        parse(body)
    return refused.value.reason


@given(VALUES)
def test_reads_what_the_standard_library_writes(value: Any) -> None:
    assert parse(json.dumps(value).encode()) == value


@given(VALUES)
def test_reads_unescaped_text_too(value: Any) -> None:
    assert parse(json.dumps(value, ensure_ascii=False, indent=1).encode()) == value


@given(st.binary())
def test_arbitrary_bytes_are_read_or_refused(body: bytes) -> None:
    assert _reads(body) or refusal(body).status == 400


@given(st.text('{}[]:,"\\u03aA019e.-+ ab', max_size=40))
def test_agrees_with_a_slow_reader_on_json_like_text(text: str) -> None:
    assert _reads(text.encode()) == _slow_reader_accepts(text)


@given(TEXTS, st.lists(VALUES, min_size=2, max_size=3), st.integers(0, 5), st.booleans())
def test_a_repeated_key_is_refused_at_any_depth(key: str, values: list[Any], depth: int, escape: bool) -> None:
    """Colons in keys and values, raw or escaped, must not hide it."""
    name = _spelt_out(key) if escape else json.dumps(key)
    members = [f"{json.dumps(key)}: {json.dumps(values[0])}"]
    members += [f"{name}: {json.dumps(value)}" for value in values[1:]]
    body = "[" * depth + "{" + ", ".join(members) + "}" + "]" * depth
    assert refusal(body.encode()) is Reason.DUPLICATE_KEY


@pytest.mark.parametrize(
    "body",
    [
        '{"a": {"b": 1}, "c": {"b": 1}}',  # the same key in two objects
        '{"t": "08:00:00", "08:00:00": "::"}',
        '{"a:": 1, "a": ":"}',
        '{"a": "\\u003a", "b": "\\\\u003a"}',
    ],
)
def test_colons_and_equal_keys_elsewhere_are_fine(body: str) -> None:
    assert parse(body.encode()) == json.loads(body)


def test_a_duplicate_is_named_only_if_it_looks_like_a_field() -> None:
    with pytest.raises(Unreadable) as named:
        parse(b'{"occurred_at": 1, "occurred_at": 2}')
    assert named.value.detail == "occurred_at"
    with pytest.raises(Unreadable) as unnamed:
        parse(b'{"13800001111": 1, "13800001111": 2}')
    assert unnamed.value.detail == ""


@given(st.integers() | st.integers(-(10**25), 10**25))
def test_integers_are_exact_or_refused(number: int) -> None:
    body = b'{"n": [%d]}' % number
    if -(2**63) <= number < 2**64:
        assert parse(body) == {"n": [number]}
    else:
        assert refusal(body) is Reason.NUMBER_TOO_BIG


def test_a_number_of_five_thousand_digits_is_refused() -> None:
    assert refusal(b"1" * 5000) is Reason.MALFORMED_JSON


def test_long_digits_in_text_and_fractions_are_fine() -> None:
    body = b'{"id": "123456789012345678901234567890", "x": 0.1234567890123456789012345}'
    assert parse(body)["id"] == "123456789012345678901234567890"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Reason.EMPTY_BODY),
        (b" \r\n\t", Reason.EMPTY_BODY),
        (b"\xef\xbb\xbf{}", Reason.NOT_UTF8),
        (b'{"a": "\xff"}', Reason.NOT_UTF8),
        (b'"\xc0\x80"', Reason.NOT_UTF8),
        (b'"\xed\xa0\x80"', Reason.NOT_UTF8),
        ("{}".encode("utf-16"), Reason.NOT_UTF8),
        (b'"\\ud800"', Reason.MALFORMED_JSON),
        (b'"\\udc00\\ud800"', Reason.MALFORMED_JSON),
        (b"[NaN]", Reason.MALFORMED_JSON),
        (b"[-Infinity]", Reason.MALFORMED_JSON),
        (b"1e999", Reason.MALFORMED_JSON),
        (b"[" * 100_000, Reason.NESTED_TOO_DEEP),
        (b"[" * 300 + b"]" * 300, Reason.NESTED_TOO_DEEP),
        (b'{"a":' * 1000 + b"1" + b"}" * 1000, Reason.NESTED_TOO_DEEP),
        (b"01", Reason.MALFORMED_JSON),
        (b"{} x", Reason.MALFORMED_JSON),
    ],
)
def test_refusals(body: bytes, reason: Reason) -> None:
    assert refusal(body) is reason


def test_a_refusal_says_where_and_never_what() -> None:
    with pytest.raises(Unreadable) as refused:
        parse(b'{"reporter":\n {"phone": 13800001111x}}')
    assert refused.value.detail == "line 2 column 23"


def test_ndjson_lines() -> None:
    assert split_ndjson(b'{"a":1}\r\n\n  \t\r\n{"b":"\\n"}\n') == [b'{"a":1}', b'{"b":"\\n"}']
    assert split_ndjson(b"") == []
    assert split_ndjson("1\u2028\x0b\x0c2".encode()) == ["1\u2028\x0b\x0c2".encode()]


@given(VALUES)
def test_canonical_is_a_fixed_point_and_keeps_the_value(value: Any) -> None:
    once = canonical(value)
    assert parse(once) == normal(value)
    assert canonical(parse(once)) == once


@given(st.dictionaries(TEXTS, VALUES))
def test_key_order_does_not_matter(value: dict[str, Any]) -> None:
    assert canonical(dict(reversed(value.items()))) == canonical(value)


@given(st.integers(-(2**53), 2**53))
def test_spelling_of_integers_does_not_matter(number: int) -> None:
    spellings = [str(number), f"{number}.0", f"{number}e0", f"{number}.000E+0"]
    assert {canonical(parse(text.encode())) for text in spellings} == {str(number).encode()}


@given(FLOATS)
def test_normal_leaves_no_integral_float_within_64_bits(number: float) -> None:
    result = normal(number)
    assert result == number
    assert isinstance(result, int) == (number.is_integer() and -(2**63) <= number < 2**64)
    assert math.isfinite(orjson.loads(canonical(number)))


def _reads(body: bytes) -> bool:
    try:
        parse(body)
    except Unreadable:
        return False
    return True


def _slow_reader_accepts(text: str) -> bool:
    """The standard library, made as strict as we promise to be."""

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("duplicate key")
        return found

    def refused(word: str) -> None:
        raise ValueError(word)

    try:
        value = json.loads(text, object_pairs_hook=distinct, parse_constant=refused)
        json.dumps(value, ensure_ascii=False).encode()  # lone surrogates
    except ValueError:
        return False
    return all(_fits(number) for number in _numbers(value))


def _numbers(value: Any) -> list[int | float]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in _numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, int | float) else []


def _fits(number: float) -> bool:
    return math.isfinite(number) if isinstance(number, float) else -(2**63) <= number < 2**64


def _spelt_out(key: str) -> str:
    units = key.encode("utf-16-be")
    return '"' + "".join(f"\\u{units[at]:02x}{units[at + 1]:02X}" for at in range(0, len(units), 2)) + '"'
