"""The district's table: what ships, what it says about a code, and how an edit that went wrong is told."""

import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from dataclasses import FrozenInstanceError
from datetime import datetime, timedelta
from fnmatch import fnmatch
from pathlib import Path

import pytest

from schemas.catalogue import Catalogue, CatalogueError, Standing, Verdict
from schemas.words import Kind, Stage

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "schemas" / "catalogue"
DATA = sorted(path for path in SHIPPED.iterdir() if path.suffix in {".csv", ".toml"})


@pytest.fixture(scope="module")
def shipped() -> Catalogue:
    return Catalogue.load()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A directory with a copy of the shipped table, for the test to edit."""
    directory = tmp_path / "table"
    directory.mkdir()
    for path in DATA:
        (directory / path.name).write_bytes(path.read_bytes())
    return directory


def edit(table: Path, file: str, old: str, new: str) -> None:
    text = (table / file).read_text(encoding="utf-8")
    assert old in text, f"{file} has no {old!r} to edit"
    (table / file).write_text(text.replace(old, new, 1), encoding="utf-8")


def problems_of(directory: Path) -> list[str]:
    with pytest.raises(CatalogueError) as raised:
        Catalogue.load(directory)
    assert all(problem in str(raised.value) for problem in raised.value.problems)
    return raised.value.problems


def test_what_ships_is_the_district_s_table(shipped: Catalogue) -> None:
    assert Counter(major.kind for major in shipped.majors.values()) == {"repair": 7, "incident": 6}
    assert Counter(item.kind for item in shipped.categories.values()) == {"repair": 85, "incident": 54}
    assert list(shipped.kinds) == list(Kind)
    assert shipped.kinds["repair"].zh == "部件"
    assert (shipped.edition, shipped.district_code, shipped.district_zh) == ("cjt214-2007", "310109", "虹口区")
    assert len(shipped.streets) == 8
    assert shipped.streets["310109018000"].zh == "北外滩街道"


def test_every_stage_of_the_contract_has_its_names(shipped: Catalogue) -> None:
    assert tuple(shipped.stages) == tuple(Stage)
    assert shipped.stages["approved"].zh == "上报通过"


def test_every_major_has_a_topic_of_its_own(shipped: Catalogue) -> None:
    assert len(set(shipped.topics)) == len(shipped.majors) == 13
    assert list(shipped.topics) == sorted(shipped.topics)
    for major in shipped.majors.values():
        assert major.topic.startswith(f"gridgov.{major.kind}.")
        assert len(major.topic) <= 249
        assert set(major.topic) <= set("abcdefghijklmnopqrstuvwxyz.-")


def test_a_time_without_an_offset_is_read_eight_hours_ahead(shipped: Catalogue) -> None:
    assert datetime(2020, 10, 26, tzinfo=shipped.timezone).utcoffset() == timedelta(hours=8)


@pytest.mark.parametrize(
    ("lon", "lat", "inside"),
    [
        (121.5125, 31.2535, True),  # the North Bund, WGS84
        (121.5235, 31.2575, True),  # the same place in BD09
        (31.2535, 121.5125, False),  # axes swapped
        (121.44, 31.33, True),  # a corner
        (121.4399, 31.33, False),
        (116.40, 39.90, False),  # Beijing
    ],
)
def test_the_district_box(shipped: Catalogue, lon: float, lat: float, inside: bool) -> None:
    assert shipped.box.contains(lon, lat) is inside


@pytest.mark.parametrize(
    ("kind", "code", "standing", "names"),
    [
        ("repair", "0211", Standing.KNOWN, ("交通护栏", "traffic guardrail")),
        ("repair", "0404", Standing.KNOWN, ("花架花钵", "flower stand / planter")),
        ("incident", "0199", Standing.KNOWN, ("其他市容环境问题", "other city appearance problem")),
        ("repair", "0199", Standing.OPEN, ("公用设施", "public utilities")),
        ("incident", "0299", Standing.OPEN, ("宣传广告", "publicity and advertising")),
        ("repair", "2101", Standing.OPEN, ("扩展部件", "district extension")),
        ("incident", "21001", Standing.OPEN, ("扩展事件", "district extension")),
        ("repair", "0239", Standing.UNKNOWN_MINOR, ("道路交通", "road traffic")),
        ("repair", "02110", Standing.UNKNOWN_MINOR, ("道路交通", "road traffic")),
        ("repair", "02990", Standing.UNKNOWN_MINOR, ("道路交通", "road traffic")),
        ("repair", "0701", Standing.UNKNOWN_MAJOR, ("", "")),
        ("incident", "0699", Standing.UNKNOWN_MAJOR, ("", "")),
        ("repair", "021", Standing.UNKNOWN_MAJOR, ("", "")),
        ("repair", "21", Standing.UNKNOWN_MAJOR, ("", "")),
        ("repair", "２１０１", Standing.UNKNOWN_MAJOR, ("", "")),
        ("repair", "0211\n", Standing.UNKNOWN_MAJOR, ("", "")),
        ("incident", "0603", Standing.OTHER_KIND, ("水域附属设施", "waterside ancillary facility")),
        ("incident", "0211", Standing.OTHER_KIND, ("交通护栏", "traffic guardrail")),
        ("repair", "0514", Standing.UNKNOWN_MINOR, ("房屋土地", "housing and land")),
        ("repair", "0513", Standing.OTHER_KIND, ("空调室外机低挂", "low-hung air-conditioner outdoor unit")),
    ],
)
def test_what_the_table_says(
    shipped: Catalogue, kind: str, code: str, standing: Standing, names: tuple[str, str]
) -> None:
    verdict = shipped.lookup(kind, code)
    assert verdict.standing is standing
    assert (verdict.zh, verdict.en) == names


def test_the_verdict_s_major_is_where_the_report_could_go(shipped: Catalogue) -> None:
    assert shipped.lookup("incident", "0211").major == shipped.majors["incident", "02"]
    assert shipped.lookup("incident", "0603").major is None
    for (kind, code), category in shipped.categories.items():
        expected = Verdict(Standing.KNOWN, shipped.majors[kind, category.major], category)
        assert shipped.lookup(kind, code) == expected
        assert shipped.major(kind, code) is expected.major


def test_the_promised_times(shipped: Catalogue) -> None:
    assert shipped.limit("repair", "arrival", "0211") == 900
    assert shipped.limit("repair", "completion", "0211") == 86_400
    assert shipped.limit("incident", "completion", "0506") == 1_500
    assert shipped.limit("incident", "arrival", "0506") is None


def test_a_category_may_have_a_limit_of_its_own(table: Path) -> None:
    row = "repair,completion,86400,,整改,rectified\n"
    edit(table, "standards.csv", row, row + row.replace("86400,", "7200,0101"))
    catalogue = Catalogue.load(table)
    assert catalogue.limit("repair", "completion", "0101") == 7_200
    assert catalogue.limit("repair", "completion", "0102") == 86_400
    assert [standard.category for standard in catalogue.standards].count("0101") == 1


def test_the_district_adds_a_category_of_three_digits(table: Path) -> None:
    line = "repair,06,06,防汛墙,flood wall\n"
    edit(table, "categories.csv", line, line + "repair,06,101,充电桩,charging post\n")
    catalogue = Catalogue.load(table)
    assert catalogue.lookup("repair", "06101").zh == "充电桩"
    assert len(catalogue.categories) == 140


def test_the_district_lists_a_local_code_of_an_open_class(table: Path) -> None:
    line = "repair,06,06,防汛墙,flood wall\n"
    edit(table, "categories.csv", line, line + "repair,21,01,花箱,flower box\n")
    catalogue = Catalogue.load(table)
    assert catalogue.lookup("repair", "2101").standing is Standing.KNOWN
    assert catalogue.lookup("repair", "2102").standing is Standing.OPEN
    assert catalogue.lookup("incident", "2101").standing is Standing.OPEN


def test_a_table_saved_by_a_spreadsheet_is_read(table: Path) -> None:
    for file in table.iterdir():
        text = file.read_text(encoding="utf-8").replace("\n", "\r\n")
        blank = ",,,,\r\n" if file.suffix == ".csv" else ""
        file.write_bytes((text + blank).encode("utf-8-sig"))
    catalogue = Catalogue.load(table)
    assert len(catalogue.categories) == 139
    assert catalogue.lookup("repair", "0606").en == "flood wall"


def test_a_catalogue_cannot_be_changed(shipped: Catalogue) -> None:
    with pytest.raises(FrozenInstanceError):
        shipped.edition = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        shipped.majors["repair", "07"] = shipped.majors["repair", "01"]  # type: ignore[index]


RAIL = "repair,02,11,交通护栏,traffic guardrail"
ROADS = "repair,02,道路交通,road traffic,gridgov.repair.road-traffic"


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("categories.csv", RAIL, RAIL.replace("repair", "repairs"), "categories.csv:50: kind 'repairs' must be"),
        ("categories.csv", RAIL, RAIL.replace("02", "2"), "categories.csv:50: major '2' must be 2 digits"),
        ("categories.csv", RAIL, RAIL.replace("11", "１１"), "categories.csv:50: minor '１１' must be 2 or 3"),
        ("categories.csv", RAIL, RAIL.replace("11", "10"), "categories.csv:50: kind,major,minor repair,02,10 is in"),
        ("categories.csv", RAIL, RAIL.replace("02", "07"), "categories.csv:50: repair major 07 is not in majors"),
        ("categories.csv", RAIL, RAIL.replace("交通护栏", " "), "categories.csv:50: zh '' must not be empty"),
        ("categories.csv", RAIL, RAIL.replace("护", "\u0007"), "categories.csv:50: zh '交通\\x07栏' must not"),
        ("categories.csv", RAIL, RAIL + ",x", "categories.csv:50: has 6 cells, not 5"),
        ("categories.csv", RAIL, RAIL.replace("交", '"交"x'), "categories.csv:50: is not CSV"),
        ("majors.csv", ROADS, ROADS.replace("road traffic", ""), "majors.csv:3: en '' must not be empty"),
        ("majors.csv", ROADS, ROADS + "/x", "majors.csv:3: topic 'gridgov.repair.road-traffic/x' must be a Kafka"),
        ("majors.csv", ROADS, ROADS + "x" * 249, "majors.csv:3: topic 'gridgov"),
        ("majors.csv", ".road-traffic", ".public-utilities", "majors.csv:3: topic gridgov.repair.public-utilities"),
        ("majors.csv", "r.road-traffic", "r_public-utilities", "is taken by line 2"),
        ("majors.csv", "topic", "topics", "majors.csv:1: header must be kind,major,zh,en,topic"),
        ("stages.csv", "note,备注,note\n", "", "stages.csv: has no line for note"),
        ("stages.csv", "note,", "memo,", "stages.csv:13: stage 'memo' is no stage of the contract"),
        ("standards.csv", "900", "0", "standards.csv:2: limit_seconds '0' must be a whole number"),
        ("standards.csv", "900", "-900", "standards.csv:2: limit_seconds '-900' must be a whole number"),
        ("standards.csv", "900", "900.5", "standards.csv:2: limit_seconds '900.5' must be a whole number"),
        ("standards.csv", "repair", "repare", "standards.csv:2: kind 'repare' must be one of repair, incident"),
        ("standards.csv", "arrival", "arival", "standards.csv:2: standard 'arival' must be one of arrival"),
        ("standards.csv", "900,", "900,0239", "standards.csv:2: category 0239 is no repair category"),
        ("standards.csv", "900,", "900,9901", "standards.csv:2: category 9901 is no repair category"),
        ("streets.csv", "310109009000", "310109009", "streets.csv:2: street_code '310109009' must be 12 digits"),
        ("streets.csv", "310109009000", "310110009000", "streets.csv:2: street_code 310110009000 is not of"),
        ("catalogue.toml", '"cjt214-2007"', '"a b"', "catalogue.toml: edition 'a b' must be"),
        ("catalogue.toml", '"cjt214-2007"', "2007", "catalogue.toml: edition 2007 must be"),
        ("catalogue.toml", 'edition = "cjt214-2007"\n', "", "catalogue.toml: edition is missing"),
        ("catalogue.toml", 'zh = "部件"\n', "", "catalogue.toml: kinds.repair.zh is missing"),
        ("catalogue.toml", "[kinds.repair]", "[kind.repair]", "catalogue.toml: kind.repair.zh is not a setting"),
        ("catalogue.toml", "Asia/Shanghai", "Asia/Hongkou", "timezone 'Asia/Hongkou' is not known"),
        ("catalogue.toml", "Asia/Shanghai", "../Shanghai", "timezone '../Shanghai' must be a time zone"),
        ("catalogue.toml", "121.44", "121.54", "catalogue.toml: district.box must have min below max"),
        ("catalogue.toml", "31.33", "nan", "catalogue.toml: district.box must have min below max"),
        ("catalogue.toml", "31.33", "true", "must all be numbers"),
        ("catalogue.toml", "= 31.33", "31.33", "catalogue.toml: is not TOML"),
    ],
)
def test_an_edit_gone_wrong_is_told_by_file_and_line(table: Path, file: str, old: str, new: str, problem: str) -> None:
    edit(table, file, old, new)
    assert any(problem in told for told in problems_of(table))


def test_all_problems_are_told_at_once(table: Path) -> None:
    edit(table, "majors.csv", ROADS, ROADS.replace("road traffic", ""))
    edit(table, "categories.csv", RAIL, RAIL.replace("repair", "repairs"))
    edit(table, "standards.csv", "900", "0")
    edit(table, "catalogue.toml", "31.33", "31.20")
    (table / "streets.csv").unlink()
    assert problems_of(table) == [
        "catalogue.toml: district.box must have min below max, in degrees",
        "categories.csv:50: kind 'repairs' must be one of repair, incident",
        "categories.csv:50: repairs major 02 is not in majors.csv",
        "majors.csv:3: en '' must not be empty or hold control characters",
        "standards.csv:2: limit_seconds '0' must be a whole number of seconds above 0",
        "streets.csv: is missing",
    ]


@pytest.mark.parametrize("file", [path.name for path in DATA])
def test_one_missing_file_is_one_problem(table: Path, file: str) -> None:
    (table / file).unlink()
    assert problems_of(table) == [f"{file}: is missing"]


def test_a_directory_that_is_not_there_misses_every_file(tmp_path: Path) -> None:
    assert problems_of(tmp_path / "nowhere") == [f"{path.name}: is missing" for path in DATA]


def test_an_empty_table_is_a_problem(table: Path) -> None:
    (table / "standards.csv").write_text("kind,standard,limit_seconds,category,zh,en\n", encoding="utf-8")
    (table / "majors.csv").write_text("", encoding="utf-8")
    assert problems_of(table) == [
        "majors.csv:1: header must be kind,major,zh,en,topic",
        "standards.csv: has no lines",
    ]


def test_a_table_in_another_encoding_is_told_by_its_line(table: Path) -> None:
    text = (table / "majors.csv").read_text(encoding="utf-8")
    (table / "majors.csv").write_bytes(text.encode("gb18030"))
    assert problems_of(table) == ["majors.csv:2: is not UTF-8; save it as UTF-8"]


def test_the_shipped_table_loads_where_there_are_no_files(tmp_path: Path) -> None:
    """From a zip, without our dependencies: the data is asked of the package, not of the checkout."""
    archive = tmp_path / "installed.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for name in ("__init__.py", "words.py"):
            packed.write(SHIPPED.parent / name, f"schemas/{name}")
        for path in [*SHIPPED.glob("*.py"), *DATA]:
            packed.write(path, f"schemas/catalogue/{path.name}")
    code = "import sys; sys.path.insert(0, sys.argv[1]); import schemas.catalogue as c; "
    code += "print(c.__file__); print(len(c.Catalogue.load().categories))"
    command = [sys.executable, "-I", "-S", "-c", code, str(archive)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout.split()
    assert said == [str(archive / "schemas" / "catalogue" / "__init__.py"), "139"]


def test_every_file_of_the_table_goes_into_the_wheel() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert "schemas.catalogue" in setuptools["packages"]
    assert len(DATA) == 6
    for path in DATA:
        assert any(fnmatch(path.name, pattern) for pattern in setuptools["package-data"]["*"])
