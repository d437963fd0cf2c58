"""Numbers of persons: found where people write them, and nothing else taken for one."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas import event, wire
from schemas.personal import Policy, Rule, mask, masked, masked_value, suspected
from schemas.report import load
from service.config import load as configure
from service.intake.policies import Policies, PolicyError
from tests.gridgov import report

NOW_MS = 1_604_450_000_000
KEEP = Policy(description=Rule.KEEP, address=Rule.KEEP, names=Rule.KEEP, extra=Rule.KEEP)
WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
digits = st.text("0123456789", min_size=1)
# What stands around a number in a sentence: no digit, no sign that would make it part of a longer one.
around = st.text(
    st.characters(codec="utf-8", exclude_categories=["Nd", "Cs", "Cc"], exclude_characters=".-+() （）－"), max_size=9
)
mobiles = st.from_regex("1[3-9][0-9]{9}", fullmatch=True)
separated = st.builds(lambda one, by: f"{one[:3]}{by}{one[3:7]}{by}{one[7:]}", mobiles, st.sampled_from(["", " ", "-"]))
prefixed = st.builds(
    lambda before, one: before + one, st.sampled_from(["", "+86", "86", "+86 ", "0086-", "0"]), separated
)
land_lines = st.builds(
    lambda area, by, one: area + by + one,
    st.sampled_from(["010", "021", "(021)", "（021）", "0571", "0701", "+86-21", "+86 571"]),
    st.sampled_from(["", "-", " "]),
    st.from_regex("[2-8][0-9]{6,7}", fullmatch=True),
).filter(lambda one: not re.fullmatch(r"\+86.[0-9]+", one))


def checked(seventeen: str) -> str:
    return "10X98765432"[sum(int(one) * weight for one, weight in zip(seventeen, WEIGHTS, strict=True)) % 11]


identities = st.builds(
    lambda area, day, serial: (start := f"{area}{day:%Y%m%d}{serial:03}") + checked(start),
    st.integers(110000, 829999),
    st.dates(min_value=date(1900, 1, 1), max_value=date(2099, 12, 31)),
    st.integers(0, 999),
)


def left(text: str) -> str:
    """Its digits."""
    return re.sub("[^0-9０-９]", "", text)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("联系人电话13812345678，请回电", "联系人电话138********，请回电"),
        ("138-1234-5678 / 138 1234 5678", "138-****-**** / 138 **** ****"),
        ("+86 13812345678", "+86 138********"),
        ("全角１３８１２３４５６７８号", "全角１３８********号"),
        ("电话：（021）65431234转8", "电话：（021）********转8"),
        ("021-65431234、02165431234", "021-********、021********"),
        ("0571-8765432", "0571-*******"),
        ("座机65431234", "座机********"),
        ("身份证11010519491231002X。", "身份证110105************。"),
        ("身份证11010519491231002x", "身份证110105************"),
        ("440524188001010014", "440524188001010014"),  # nobody was born in 1880
        ("身份证110105194912310021", "身份证110105194912310021"),  # its check digit is X
        ("12345、110、4008208820", "12345、110、4008208820"),
    ],
)
def test_what_is_found_and_what_is_left_of_it(said: str, kept: str) -> None:
    assert mask(said) == kept


@given(around, prefixed | land_lines | identities, around)
@example("客户", "13812345678", "先生")
def test_whatever_stands_around_it(before: str, number: str, after: str) -> None:
    shown = mask(before + number + after)

    assert len(shown) == len(before + number + after)
    assert "*" in shown[len(before) :]
    assert len(left(shown)) <= len(left(before)) + len(left(after)) + 8  # a prefix and what is nobody's own
    assert mask(shown) == shown


@given(st.text(st.sampled_from("0123456789０１２- ()（）－.+Xx电话号a\n"), max_size=60))
def test_a_mask_is_masked_already_and_hides_only_digits(text: str) -> None:
    shown = mask(text)

    assert mask(shown) == shown
    assert len(shown) == len(text)
    assert all(
        new == old or (new == "*" and re.fullmatch("[0-9０-９XxＸｘ]", old))
        for new, old in zip(shown, text, strict=True)
    )


@given(
    st.from_regex("[0-9]{14,17}|[0-9]{12}|[0-9]{19,20}", fullmatch=True).filter(
        lambda one: not re.match("00861|0?0?86|0", one)
    )
)
def test_grid_cells_components_and_streets_in_a_sentence_are_none(code: str) -> None:
    assert mask(f"网格{code}，部件") == f"网格{code}，部件"


@given(st.floats(-180, 180) | st.floats(-1e7, 1e7))
def test_coordinates_in_a_sentence_are_none(number: float) -> None:
    assert mask(f"位于{number:.11f} {number:.8f} {number}") == f"位于{number:.11f} {number:.8f} {number}"
    assert masked_value({"x": number}) == {"x": number}


@given(st.integers(631152000, 4070908800).map(lambda epoch: datetime.fromtimestamp(epoch, UTC)))
def test_times_in_a_sentence_are_none(moment: Any) -> None:
    epoch = int(moment.timestamp())
    for said in (
        moment.isoformat(),
        f"{moment:%Y-%m-%d %H:%M:%S}",
        f"{moment:%Y%m%d%H%M%S}",
        f"{epoch}",
        f"{epoch}123",
    ):
        assert mask(f"于{said}") == f"于{said}"


@given(identities, st.integers(0, 17), st.integers(1, 9))
def test_one_digit_off_is_no_identity_number(number: str, place: int, by: int) -> None:
    """Only among those where nothing else makes it none: the check digit is what tells."""
    wrong = [int(one) if one != "X" else 10 for one in number]
    wrong[place] = (wrong[place] + by) % 10
    text = "".join("X" if one == 10 else str(one) for one in wrong)
    if text != number and not re.search("(?<![0-9])(86|0)?1[3-9]", text[:5]):
        assert mask(f"证{text}") == f"证{text}"


def everywhere(number: str) -> dict[str, Any]:
    return report(
        number,
        report_id=number,
        case_id=number,
        description=f"请联系{number}",
        location={
            "address": f"{number}号",
            "street_code": "310109018",
            "grid_code": "31010901800101",
            "component_id": number,
            "x": 121.13812345678,
            "y": 31.2,
            "crs": "CGCS2000",
        },
        source_name=number,
        campaign={"name": number, "level": number},
        handler={"unit_code": number, "unit_name": number},
        attachments=[{"url": f"https://example.org/{number}.jpg"}],
        extra={"电话": number, number: [int(number), {"deep": number}], "at": 1604450000000},
    )


def test_free_text_is_masked_and_nothing_else() -> None:
    loaded = load(everywhere("13812345678"), now_ms=NOW_MS)
    hidden = "138********"

    shown = loaded.canonical
    assert shown["description"] == f"请联系{hidden}"
    assert shown["location"] == everywhere("13812345678")["location"] | {"address": f"{hidden}号"}
    assert (shown["source_name"], shown["campaign"]) == (hidden, {"name": hidden, "level": hidden})
    assert shown["handler"] == {"unit_code": "13812345678", "unit_name": hidden}
    assert shown["extra"] == {"电话": hidden, hidden: [hidden, {"deep": hidden}], "at": 1604450000000}
    assert (shown["report_id"], shown["case_id"]) == ("13812345678", "13812345678")
    assert shown["attachments"] == [{"url": "https://example.org/13812345678.jpg"}]
    assert loaded.masked


def test_an_ordinary_report_is_left_as_it_is() -> None:
    given = report(1, case_id="202011040013812345678", description="隔离栏 3 节，高 1200 mm，08:00 前修复")
    loaded = load(given, now_ms=NOW_MS)

    assert not suspected(loaded.content)
    assert wire.encode(loaded.canonical) == loaded.compared
    assert not loaded.masked


def test_a_repeat_is_the_same_report_whatever_the_policy_was_and_is() -> None:
    given = everywhere("13812345678") | {"reporter": {"name": "张三", "phone": "13812345678"}}
    policies = [Policy(), KEEP, Policy(reporter_name=Rule.KEEP, reporter_phone=Rule.MASK), Policy(extra=Rule.KEEP)]
    loaded = [load(given, now_ms=NOW_MS, policy=policy) for policy in policies]

    assert len({one.fingerprint() for one in loaded}) == 1
    assert [one.masked for one in loaded] == [True, False, True, True]
    names = event.Names(zh="名", en="name")
    for one in loaded:  # and also once it is salvaged
        value = event.build(one, received_at_ms=0, flags=[], edition="e", major_name=names, category_name=names)
        assert event.fingerprint(value) == one.fingerprint()
    other = load(given | {"description": "请联系13812345678 !"}, now_ms=NOW_MS)
    assert other.fingerprint() != loaded[0].fingerprint()


def test_the_fingerprint_does_not_know_the_number() -> None:
    """Else whoever has the masked text could try ten thousand numbers and find the one."""
    one, two = (
        load(report(1, description=f"电话{number}"), now_ms=NOW_MS) for number in ("13812345678", "13899999999")
    )

    assert one.fingerprint() == two.fingerprint()


def test_who_reported_it_is_dropped_masked_or_kept() -> None:
    given = report(1, reporter={"name": "张三丰", "phone": "021-65431234"})

    def shown(name: Rule, phone: Rule) -> Any:
        canonical = load(given, now_ms=NOW_MS, policy=Policy(reporter_name=name, reporter_phone=phone)).canonical
        assert canonical["reporter_given"] is True
        return canonical.get("reporter")

    assert shown(Rule.DROP, Rule.DROP) is None
    assert shown(Rule.MASK, Rule.MASK) == {"name": "张**", "phone": "021*********"}
    assert shown(Rule.KEEP, Rule.DROP) == {"name": "张三丰"}
    assert shown(Rule.DROP, Rule.KEEP) == {"phone": "021-65431234"}


def test_keys_that_are_alike_when_masked_stay_apart_in_one_order() -> None:
    given = {"13812345678": 1, "13899999999": 2, "138********": 3}
    backwards = dict(reversed(given.items()))

    assert masked_value(given) == masked_value(backwards)
    assert sorted(masked_value(given).values()) == [1, 2, 3]
    assert masked_value(masked_value(given)) == masked_value(given)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | mobiles
    | identities,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=5) | mobiles, below, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200)
@given(st.dictionaries(st.text(max_size=5) | mobiles, json_values, max_size=4))
def test_whatever_extra_holds_is_masked_once_and_for_all(extra: dict[str, Any]) -> None:
    shown = masked({"extra": extra})

    assert masked(shown) == shown
    orjson.dumps(shown)


# ---- policies ----


def test_a_policy_is_of_a_sender_and_of_a_field(tmp_path: Path) -> None:
    path = tmp_path / "personal.toml"
    path.write_text(
        '[default]\nreporter_phone = "mask"\n[senders.platform-a]\ndescription = "keep"\n', encoding="utf-8"
    )
    policies = Policies.load(path, "mask")

    assert policies.of("another") == Policy(reporter_phone=Rule.MASK)
    assert policies.of("platform-a") == Policy(reporter_phone=Rule.MASK, description=Rule.KEEP)
    assert Policies.load(None, "mask").of("anybody") == Policy()
    assert Policies.load(None, "keep").of("anybody") == KEEP
    assert configure({}).personal_numbers == "mask"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("[defaults]", ["defaults: no such table"]),
        (
            '[default]\nphone = "mask"\naddress = "drop"',
            ["default.phone: no such", "default.address: must be one of mask"],
        ),
        ("[senders]\na = 1\n[senders.b]\nextra = 1", ["a: must be a table", "b.extra: must be one of"]),
        ("senders = 1\ndefault = 2", ["senders: must be tables", "default: must be a table"]),
        ("[", [""]),
    ],
)
def test_a_wrong_policy_stops_the_start_with_all_that_is_wrong(tmp_path: Path, text: str, problems: list[str]) -> None:
    path = tmp_path / "personal.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PolicyError) as error:
        Policies.load(path, "mask")

    assert len(error.value.problems) == len(problems)
    assert all(any(told.startswith(begins) for told in error.value.problems) for begins in problems)
