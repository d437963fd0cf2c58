"""What the web process tells of cases, whatever becomes of the casebook's file under its feet."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from schemas.times import format_time
from service.cases import fold as cases
from service.cases.api import CaseReader
from service.cases.casebook import Casebook
from service.cases.search import Search
from service.cli import cases as cli
from service.domain.case import Fact
from service.ports import JournalBroken, JournalUnavailable
from tests.gridgov import until
from tests.unit.case_desk import Desk, hurried
from tests.unit.case_stories import RULES, T0, fact, ms
from tests.unit.test_case_aside import spoil

NOW = T0 + 10**9


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cases, "BROKEN_SECONDS", 0.01)
    monkeypatch.setattr(cases, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr("service.cases.api._now", lambda: NOW)
    with hurried():
        yield


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.close()


def reader(desk: Desk, opened: Callable[[], None] = lambda: None) -> CaseReader:
    def open_casebook() -> Casebook:
        opened()
        return Casebook.in_files(desk.directory, RULES, make=False)

    return CaseReader(open_casebook, desk.journal, RULES)


def reported(*names: str) -> list[Fact]:
    """The first report of each of these cases, a second after the one before."""
    facts = [fact(f"reported@{n}", n, "incident") for n in range(len(names))]
    return [one._replace(case_id=name, report_id=name) for name, one in zip(names, facts, strict=True)]


def told(body: dict[str, Any]) -> tuple[list[str], str]:
    return [one["case_id"] for one in body["cases"]], body["as_of"]


def everything(reader: CaseReader) -> tuple[list[str], str]:
    return told(reader.some(Search(), "", 10))


def copied(desk: Desk) -> Path:
    """A copy of the casebook as it is now."""
    aside = desk.directory.parent / "copy"
    aside.mkdir()
    for file in desk.directory.glob("cases.sqlite3*"):
        if not file.name.endswith("-shm"):
            shutil.copy(file, aside)
    return aside


def move(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for file in list(source.glob("cases.sqlite3*")):
        file.rename(target / file.name)


# ---- another casebook in its place ----


def test_a_reader_follows_to_the_casebook_that_was_put_in_place(desk: Desk) -> None:
    desk.accept(*reported("one"))
    desk.turn()
    asked, old = reader(desk), copied(desk)
    desk.accept(*reported("one", "two", "three")[1:])
    desk.turn()
    assert everything(asked) == (["one", "three", "two"], format_time(NOW))
    desk.settle(1, 2, 3)

    desk.book.close()
    move(desk.directory, desk.directory / "away")
    move(old, desk.directory)

    assert everything(asked) == (["one"], format_time(ms(0))), "the journal has no more what that one lacks"
    assert asked.one("one", None) is not None
    assert asked.one("two", None) is None
    desk.fold.open()
    assert everything(asked) == (["one"], format_time(NOW))
    assert desk.total("gaps") == 2


def test_what_the_journal_still_has_bounds_what_an_old_casebook_says(desk: Desk) -> None:
    desk.accept(*reported("one"))
    desk.turn()
    asked, old = reader(desk), copied(desk)
    assert everything(asked) == (["one"], format_time(NOW))
    desk.accept(*reported("one", "two", "three")[1:])
    desk.turn()
    desk.book.close()
    move(desk.directory, desk.directory / "away")
    move(old, desk.directory)
    assert everything(asked) == (["one"], format_time(ms(1))), "not of now: of when the next was received"
    desk.fold.open()


def test_a_reader_makes_no_casebook_and_says_of_when_that_is(desk: Desk) -> None:
    desk.accept(*reported("one", "two"))
    desk.turn()
    desk.settle(1)
    asked = reader(desk)
    assert everything(asked) == (["one", "two"], format_time(NOW))
    move(desk.directory, desk.directory / "away")
    assert everything(asked) == ([], format_time(0)), "of no moment at all: the journal has dropped what was folded"
    assert asked.one("one", None) is None
    assert not list(desk.directory.glob("cases.sqlite3*"))
    move(desk.directory / "away", desk.directory)
    assert everything(asked) == (["one", "two"], format_time(NOW))


def test_readers_that_come_first_at_once_open_it_once(desk: Desk) -> None:
    desk.accept(*reported("one"))
    desk.turn()
    opened = []

    def slowly() -> None:
        opened.append(threading.get_ident())
        time.sleep(0.05)  # the others come meanwhile

    asked = reader(desk, slowly)
    with ThreadPoolExecutor(8) as pool:
        bodies = list(pool.map(lambda _: asked.one("one", None), range(8)))
    assert all(bodies)
    assert len(opened) == 1


def test_a_case_that_cannot_be_read_spoils_no_list(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.accept(*reported("a", "b", "c", "d"))
    desk.turn()
    spoil(desk, "b")
    asked, names = reader(desk), []
    after: str | None = ""
    while after is not None:
        body = asked.some(Search(), after, 1)
        names += told(body)[0]
        after = body["next"]
    assert names == ["a", "c", "d"]
    assert [vars(record)["case_id"] for record in caplog.records if record.message == "case not shown"] == ["b"]
    with pytest.raises(ValueError, match="truncated"):
        asked.one("b", None)


def test_the_command_line_lists_what_it_can_read_and_names_what_it_cannot(desk: Desk) -> None:
    desk.accept(*reported("a", "b", "c"))
    desk.turn()
    spoil(desk, "b")
    done = CliRunner().invoke(cli.cases, env={"GRIDGOV_DATA_DIR": str(desk.directory)})
    assert done.exit_code == 0, done.output
    assert [line.split()[:5] for line in done.stdout.splitlines()] == [
        [name, "incident", "0604", "awaiting_arrival", "2020-10-26"] for name in ("a", "c")
    ]
    assert "case b cannot be read: DecodeError" in done.stderr
    assert "2 cases as of" in done.stderr


# ---- the fold ----


def test_the_fold_goes_on_in_the_casebook_that_was_put_in_place(desk: Desk) -> None:
    """What it had folded into the other one the journal may have dropped: that is counted. Nothing more is lost."""
    desk.accept(*reported("one"))
    desk.turn()
    old = copied(desk)
    desk.accept(*reported("one", "two", "three")[1:])
    desk.turn()
    desk.settle(1, 2)
    stop = threading.Event()
    desk.fold.start(stop)
    try:
        move(desk.directory, desk.directory / "away")
        move(old, desk.directory)
        desk.accept(*reported("one", "two", "three", "four")[3:])
        until(lambda: everything(reader(desk))[0] == ["four", "one", "three"], "all the journal has is in that one")
    finally:
        stop.set()
        desk.fold.join()
    assert desk.total("gaps") == 1
    assert desk.fold.folded == 4


@pytest.mark.parametrize("bad", [False, True], ids=["together", "one by one"])
def test_what_is_folded_into_a_file_that_nobody_sees_does_not_count_as_folded(desk: Desk, bad: bool) -> None:
    desk.accept(*reported("one"))
    desk.turn()
    desk.accept(*reported("one", "two")[1:])

    def digest(*_: object) -> None:
        move(desk.directory, desk.directory / "away")
        if bad:
            raise ValueError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(desk.fold, "_digest", digest)
        with pytest.raises(JournalUnavailable):
            desk.fold.turn()
    assert desk.fold.folded == 1


def test_a_casebook_that_is_gone_is_waited_for_not_made_anew(desk: Desk) -> None:
    desk.accept(*reported("one"))
    desk.turn()
    move(desk.directory, desk.directory / "away")
    desk.accept(*reported("one", "two")[1:])
    for _ in range(2):
        with pytest.raises(JournalUnavailable, match=r"put it back, or restart"):
            desk.turn()
    assert not list(desk.directory.glob("cases.sqlite3*"))
    move(desk.directory / "away", desk.directory)
    desk.turn()
    assert (desk.fold.folded, desk.total("reported"), desk.total("gaps")) == (2, 2, 0)


def test_another_casebook_is_never_written_to_by_who_opened_the_first(desk: Desk) -> None:
    old = copied(desk)
    move(desk.directory, desk.directory / "away")
    move(old, desk.directory)
    with pytest.raises(JournalBroken, match="another file stands in the place"):
        desk.fold.turn()
