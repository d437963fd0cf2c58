"""The catalogue's files, read and checked: rows if all is well, every problem at once if not.

Five CSV tables and one TOML file, UTF-8 (the mark Excel writes in front is accepted), edited by hand by the
district, so each problem is told by file and line and none hides another.
"""

import csv
import io
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from schemas.words import Stage, Standard

SETTINGS = "catalogue.toml"
COLUMNS = {
    "majors.csv": ["kind", "major", "zh", "en", "topic"],
    "categories.csv": ["kind", "major", "minor", "zh", "en"],
    "stages.csv": ["stage", "zh", "en"],
    "standards.csv": ["kind", "standard", "limit_seconds", "category", "zh", "en"],
    "streets.csv": ["street_code", "zh", "en"],
}
_KEYS = {
    "majors.csv": ["kind", "major"],
    "categories.csv": ["kind", "major", "minor"],
    "stages.csv": ["stage"],
    "standards.csv": ["kind", "standard", "category"],
    "streets.csv": ["street_code"],
}
_NAME = (r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]+", "must not be empty or hold control characters")
_CELLS = {
    "major": (r"[0-9]{2}", "must be 2 digits, the leading zero kept"),
    "minor": (r"[0-9]{2,3}", "must be 2 or 3 digits, the leading zero kept"),
    "zh": _NAME,
    "en": _NAME,
    "topic": (r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}", "must be a Kafka topic: 1 to 249 of a-z A-Z 0-9 . _ -"),
    "stage": ("|".join(Stage), "is no stage of the contract"),
    "standard": ("|".join(Standard), f"must be one of {', '.join(Standard)}"),
    "limit_seconds": (r"[1-9][0-9]{0,8}", "must be a whole number of seconds above 0"),
    "category": (r"([0-9]{4,5})?", "must be empty or 4 or 5 digits"),
    "street_code": (r"[0-9]{12}", "must be 12 digits"),
}
_VALUES = {
    "edition": (r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "must be 1 to 64 of a-z A-Z 0-9 . _ -"),
    "edition_title": _NAME,
    "timezone": (r"[A-Za-z0-9_+/-]+", "must be a time zone such as Asia/Shanghai"),
    "district.code": (r"[0-9]{6}", "must be 6 digits"),
    "district.zh": _NAME,
    "district.en": _NAME,
}
_EDGES = ("district.box.min_lon", "district.box.max_lon", "district.box.min_lat", "district.box.max_lat")
_KIND_NAME = re.compile(r"kinds\.([a-z]+)\.(zh|en)")


class CatalogueError(Exception):
    """The catalogue cannot be used; `problems` lists everything that is wrong with it, by file and line."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(["the catalogue cannot be used:", *self.problems]))


class Problem(NamedTuple):
    """Sorts by file and line; line 0 is the file as a whole."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


class Row(NamedTuple):
    """One line of a table; `cells` holds every column of its file."""

    file: str
    line: int
    cells: Mapping[str, str]

    @property
    def key(self) -> tuple[str, ...]:
        return self.at(*_KEYS[self.file])

    def at(self, *columns: str) -> tuple[str, ...]:
        return tuple(self.cells[column] for column in columns)

    def problem(self, text: str) -> Problem:
        return Problem(self.file, self.line, text)


class Tables(NamedTuple):
    """`settings` by dotted key ("district.box.min_lon"), `rows` by file name."""

    settings: Mapping[str, Any]
    rows: Mapping[str, list[Row]]


def read(source: Traversable) -> Tables:
    """Everything in `source`, checked. Raises CatalogueError with all problems, ordered by file and line."""
    problems: list[Problem] = []
    settings = _read_settings(source, problems)
    rows = {file: _read_rows(source, file, problems) for file in COLUMNS}
    problems += _wrong_settings(settings)
    for table in rows.values():
        problems += _wrong_cells(table, kinds_in(settings))
        problems += _repeated(table)
    problems += _wrong_together(settings, rows)
    if problems:
        raise CatalogueError(str(problem) for problem in sorted(problems))
    return Tables(settings, rows)


def kinds_in(settings: Mapping[str, Any]) -> list[str]:
    """The kinds the settings name, in their order."""
    return list(dict.fromkeys(match[1] for key in settings if (match := _KIND_NAME.fullmatch(key))))


def is_open(code: str) -> bool:
    """Major 21 (the district's extension) and minor 99 (other) take codes that no table lists."""
    return code[:2] == "21" or code[2:] == "99"


def _read_text(source: Traversable, file: str, problems: list[Problem]) -> str | None:
    try:
        return source.joinpath(file).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        problems.append(Problem(file, 0, "is missing"))
    except OSError as error:
        problems.append(Problem(file, 0, f"cannot be read: {error.strerror}"))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problems.append(Problem(file, line, "is not UTF-8; save it as UTF-8"))
    return None


def _read_settings(source: Traversable, problems: list[Problem]) -> dict[str, Any]:
    if (text := _read_text(source, SETTINGS, problems)) is None:
        return {}
    try:
        # TOML knows no bare carriage return; a file saved on Windows has it only before the line feed
        return _flat(tomllib.loads(text.replace("\r\n", "\n")))
    except tomllib.TOMLDecodeError as error:
        problems.append(Problem(SETTINGS, 0, f"is not TOML: {error}"))
        return {}


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value.strip() if isinstance(value, str) else value
    return flat


def _read_rows(source: Traversable, file: str, problems: list[Problem]) -> list[Row]:
    if (text := _read_text(source, file, problems)) is None:
        return []
    columns, rows = COLUMNS[file], list[Row]()
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        if [cell.strip() for cell in next(lines, [])] != columns:
            problems.append(Problem(file, 1, f"header must be {','.join(columns)}"))
            return []
        for cells in lines:
            if any(cells):
                rows.append(_row(Row(file, lines.line_num, {}), cells, problems))
    except csv.Error as error:
        problems.append(Problem(file, lines.line_num, f"is not CSV: {error}"))
    if not rows:
        problems.append(Problem(file, 0, "has no lines"))
    return rows


def _row(empty: Row, cells: Sequence[str], problems: list[Problem]) -> Row:
    # a line too short or too long is kept, or all that hangs on it would be reported as well
    columns = COLUMNS[empty.file]
    if len(cells) != len(columns):
        problems.append(empty.problem(f"has {len(cells)} cells, not {len(columns)}"))
    padded = [*cells, *[""] * len(columns)]
    return empty._replace(cells={column: padded[i].strip() for i, column in enumerate(columns)})


def _wrong_settings(settings: Mapping[str, Any]) -> Iterator[Problem]:
    if not settings:
        return  # missing or unreadable: said already
    rules = _VALUES | {f"kinds.{kind}.{name}": _NAME for kind in kinds_in(settings) for name in ("zh", "en")}
    for key, (pattern, rule) in rules.items():
        value = settings.get(key)
        if not (isinstance(value, str) and re.fullmatch(pattern, value)):
            yield Problem(SETTINGS, 0, f"{key} {value!r} {rule}" if key in settings else f"{key} is missing")
    for key in sorted(settings.keys() - rules.keys() - set(_EDGES)):
        yield Problem(SETTINGS, 0, f"{key} is not a setting")
    if not kinds_in(settings):
        yield Problem(SETTINGS, 0, "kinds is missing")
    yield from _wrong_box([settings.get(edge) for edge in _EDGES])
    yield from _wrong_timezone(settings.get("timezone"))


def _wrong_box(edges: list[Any]) -> Iterator[Problem]:
    numbers = [edge for edge in edges if type(edge) in (int, float)]  # a bool is an int, and no degree
    if len(numbers) < len(edges):
        yield Problem(SETTINGS, 0, f"{', '.join(_EDGES)} must all be numbers")
    elif not (-180 <= numbers[0] < numbers[1] <= 180 and -90 <= numbers[2] < numbers[3] <= 90):
        yield Problem(SETTINGS, 0, "district.box must have min below max, in degrees")


def _wrong_timezone(name: object) -> Iterator[Problem]:
    try:
        ZoneInfo(str(name))
    except (KeyError, ValueError, OSError):
        if name is not None:
            yield Problem(SETTINGS, 0, f"timezone {name!r} is not known on this machine")


def _wrong_cells(table: list[Row], kinds: list[str]) -> Iterator[Problem]:
    for row in table:
        for column, value in row.cells.items():
            pattern, rule = _CELLS.get(column, ("|".join(kinds), f"must be one of {', '.join(kinds)}"))
            if pattern and not re.fullmatch(pattern, value):
                yield row.problem(f"{column} {value!r} {rule}")


def _repeated(table: list[Row]) -> Iterator[Problem]:
    first: dict[tuple[str, ...], Row] = {}
    for row in table:
        if (earlier := first.setdefault(row.key, row)) is not row:
            columns, values = ",".join(_KEYS[row.file]), ",".join(row.key)
            yield row.problem(f"{columns} {values} is in line {earlier.line} already")


def _wrong_together(settings: Mapping[str, Any], rows: Mapping[str, list[Row]]) -> Iterator[Problem]:
    yield from _shared_topics(rows["majors.csv"])
    # when a whole file failed, one problem has said so; do not repeat it for every line that leans on it
    if majors := {row.at("kind", "major") for row in rows["majors.csv"]}:
        yield from _orphans(rows["categories.csv"], majors)
        yield from _stray_overrides(rows["standards.csv"], rows["categories.csv"], majors)
    for row in rows["streets.csv"] if "district.code" in settings else []:
        if not row.cells["street_code"].startswith(str(settings["district.code"])):
            yield row.problem(f"street_code {row.cells['street_code']} is not of district.code")
    if stages := [row.cells["stage"] for row in rows["stages.csv"]]:
        yield from (Problem("stages.csv", 0, f"has no line for {s}") for s in Stage if s not in stages)


def _shared_topics(majors: list[Row]) -> Iterator[Problem]:
    first: dict[str, Row] = {}
    for row in majors:
        # Kafka names metrics with "." as "_" and refuses a topic that then collides with another
        folded = row.cells["topic"].replace(".", "_")
        if (earlier := first.setdefault(folded, row)) is not row:
            yield row.problem(f"topic {row.cells['topic']} is taken by line {earlier.line}")


def _orphans(categories: list[Row], majors: set[tuple[str, ...]]) -> Iterator[Problem]:
    for row in categories:
        if row.at("kind", "major") not in majors:
            yield row.problem(f"{row.cells['kind']} major {row.cells['major']} is not in majors.csv")


def _stray_overrides(standards: list[Row], categories: list[Row], majors: set[tuple[str, ...]]) -> Iterator[Problem]:
    listed = {(row.cells["kind"], "".join(row.at("major", "minor"))) for row in categories}
    for row in standards:
        kind, code = row.at("kind", "category")
        taken = (kind, code) in listed or ((kind, code[:2]) in majors and is_open(code))
        if code and not taken:
            yield row.problem(f"category {code} is no {kind} category of categories.csv")
