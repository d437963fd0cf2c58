"""`gridgov-consumer` as a package of its own, the databases it knows, and what `gridgov sink` says of passwords."""

from __future__ import annotations

import ast
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from service.cli.main import main
from service.consumer import Database, DatabaseAway, Foreign, Selection, UnknownDatabase, masked
from service.consumer.report import read
from service.sink import tables
from tests.gridgov import until
from tests.integration.test_consume import VALUE
from tests.sunk import rows

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "service" / "consumer"
MADE = "SELECT name FROM sqlite_schema"
SECRET = "geh%40eim:x"


def test_it_installs_alone_and_needs_nothing_but_kafka_python(tmp_path: Path) -> None:
    """Built as whoever takes it builds it; imported by a Python that has nothing else, of ours or of others."""
    source, target = tmp_path / "source", tmp_path / "alone"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", target, source], check=True, capture_output=True)
    import kafka

    (target / "kafka").symlink_to(Path(kafka.__file__).parent)
    code = (
        "import sys, gridgov_consumer as c; print(c.Reader.__module__, *{name.split('.')[0] for name in sys.modules})"
    )
    bare = [sys.executable, "-S", "-I", "-c", f"import sys; sys.path.insert(0, {str(target)!r}); {code}"]
    told = subprocess.run(bare, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert told.returncode == 0, told.stderr
    where, *loaded = told.stdout.split()
    assert where == "gridgov_consumer.reader"
    assert set(loaded) - set(sys.stdlib_module_names) - {"kafka", "gridgov_consumer", "__main__"} <= {"__mp_main__"}


def test_its_modules_name_nothing_of_this_repository() -> None:
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            named += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            outside = {name.split(".")[0] for name in named} - set(sys.stdlib_module_names)
            assert outside <= {"kafka", "psycopg"}, path


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://sink:{SECRET}@db:5432/city?sslmode=require",
        f"postgresql://db/city?user=sink&password={SECRET}",
        f"postgres://sink:{SECRET}@[::1]/city",
        f"postgresql://sink:{SECRET.replace('%40', '@')}@db/city",
    ],
)
def test_no_password_survives_masking(url: str) -> None:
    assert not {part for part in ("geh", "eim") if part in masked(url)}
    assert "db" in masked(url) or "::1" in masked(url)


def test_an_address_without_a_password_stays_as_it_is() -> None:
    for url in ("postgresql://sink@db/city", "sqlite:///var/cases.db", "postgresql:///city?host=/run/postgresql"):
        assert masked(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "cases.db",
        "sqlite://cases.db",
        "sqlite:///",
        "sqlite:///a#b",
        "sqlite:///a?b",
        "mysql://u:geheim@db/x",
        "postgresql://u:geheim@db/x?no_such=1",
    ],
)
def test_what_is_no_database_is_told_without_its_password(url: str) -> None:
    with pytest.raises(UnknownDatabase) as told:
        Database.at(url)

    assert "geheim" not in str(told.value)


def test_a_transaction_that_fails_leaves_nothing_and_a_missing_table_is_no_records_fault(tmp_path: Path) -> None:
    database = Database.at(f"sqlite:///{tmp_path / 'own.db'}")
    with database.transaction() as cursor:
        cursor.execute("CREATE TABLE t(n INTEGER PRIMARY KEY)")
    with pytest.raises(DatabaseAway), database.transaction() as cursor:
        cursor.execute("INSERT INTO missing VALUES(1)")
    with pytest.raises(sqlite3.IntegrityError), database.transaction() as cursor:
        cursor.executemany("INSERT INTO t VALUES(?)", [(1,), (1,)])
    with database.transaction() as cursor:
        assert cursor.execute("SELECT COUNT(*) FROM t").fetchone() == (0,)
    database.close()


def record(**changes: object) -> SimpleNamespace:
    import json

    headers = [("ce_source", b"platform"), ("ce_id", b"r-1"), ("journal-id", b"j"), ("journal-seq", b"7")]
    whole = {"topic": "t", "partition": 0, "offset": 3, "headers": headers, "key": VALUE["case_id"].encode()}
    return SimpleNamespace(**{**whole, "value": json.dumps(VALUE).encode(), **changes})


def test_a_report_is_read_with_its_place() -> None:
    told = read(record())

    assert (told.topic, told.partition, told.offset, told.journal_id, told.seq) == ("t", 0, 3, "j", 7)
    assert (told.sender, told.case_id, told.street) == ("platform", VALUE["case_id"], "310109018")


@pytest.mark.parametrize("lacking", ["ce_source", "ce_id"])
def test_what_names_no_sender_or_no_report_is_foreign(lacking: str) -> None:
    with pytest.raises(Foreign, match=lacking):
        read(record(headers=[pair for pair in record().headers if pair[0] != lacking]))


def test_a_number_that_json_does_not_know_is_foreign() -> None:
    with pytest.raises(Foreign, match="no report"):
        read(record(value=b'{"x": NaN}'))


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        (Selection(), True),
        (Selection(kinds=["incident"]), False),
        (Selection(categories=["04"]), True),
        (Selection(categories=["0211", "0404"]), True),
        (Selection(kinds=["repair"], categories=["02"]), False),
    ],
)
def test_kind_and_category_are_selected_by_how_they_begin(selection: Selection, *, wanted: bool) -> None:
    assert selection.wants(read(record())) is wanted


# ---- the command ----


def test_without_a_database_it_says_how_to_name_one() -> None:
    done = CliRunner().invoke(main, ["sink"], env={"GRIDGOV_SINK_DATABASE": ""})

    assert done.exit_code == 2
    assert "GRIDGOV_SINK_DATABASE" in done.output


def test_a_password_on_the_command_line_is_warned_of_and_shown_nowhere() -> None:
    done = CliRunner().invoke(main, ["sink", "postgresql://u:geheim@db/x?no_such=1"])

    assert done.exit_code == 2
    assert "~/.pgpass" in done.output
    assert "geheim" not in done.output


def test_gridgov_config_does_not_show_the_database() -> None:
    done = CliRunner().invoke(main, ["config"], env={"GRIDGOV_SINK_DATABASE": "postgresql://u:geheim@db/x"})

    assert "GRIDGOV_SINK_DATABASE=(set, not shown)" in done.output
    assert "geheim" not in done.output


@pytest.mark.parametrize(("page", "language"), [("README.md", "en"), ("README.zh-CN.md", "zh")])
def test_the_pages_tell_every_column(page: str, language: str) -> None:
    text = (PACKAGE / page).read_text(encoding="utf-8")

    assert tables.page(language) in text


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_program_on_the_page_is_one(page: str, tmp_path: Path) -> None:
    """It runs until it asks for Kafka, which is not there."""
    [program] = re.findall(r"```python\n(.*?)```", (PACKAGE / page).read_text(encoding="utf-8"), re.DOTALL)
    runnable = program.replace("gridgov_consumer", "service.consumer").replace("9092", "9")
    (tmp_path / "own.py").write_text(runnable, encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen([sys.executable, "own.py"], cwd=tmp_path, env=env, stderr=said)
    try:
        until((tmp_path / "cases.db").exists, "its database is there")
        until(lambda: ("calls",) in rows(f"sqlite:///{tmp_path}/cases.db", MADE), "its table is made")
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
