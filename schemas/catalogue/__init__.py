"""The district's table: what can be wrong, which topic carries it, how fast it must be answered.

Kinds, categories, topics, standards and streets are data the district owns: the files beside this module,
or a directory with the same files. The shipped ones are of the CJ/T 214-2007 / GB/T 30428.2 family.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Self
from zoneinfo import ZoneInfo

from .table import CatalogueError, Tables, is_open, kinds_in, read

__all__ = [
    "Box",
    "Catalogue",
    "CatalogueError",
    "Category",
    "Kind",
    "Major",
    "Stage",
    "Standard",
    "Standing",
    "Street",
    "Verdict",
]

_CODE = re.compile(r"[0-9]{4,5}")


class Standing(StrEnum):
    """What the table says about a category code of a kind."""

    KNOWN = "known"
    OPEN = "open"  # not listed and need not be: major 21 or minor 99
    UNKNOWN_MINOR = "unknown_minor"  # its major is known, and no kind lists it
    UNKNOWN_MAJOR = "unknown_major"  # no kind lists it, and no topic would take it
    OTHER_KIND = "other_kind"  # listed, but for another kind


@dataclass(frozen=True, slots=True)
class Kind:
    """What a report is about in general: `repair` (部件) or `incident` (事件)."""

    kind: str
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Major:
    """A major class (大类), 2 digits, with the Kafka topic of its reports."""

    kind: str
    major: str
    zh: str
    en: str
    topic: str


@dataclass(frozen=True, slots=True)
class Category:
    """A minor class (小类), 2 or 3 digits; `code` is major + minor, as a report gives it."""

    kind: str
    major: str
    minor: str
    code: str
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Stage:
    """What a stage of the contract is called."""

    stage: str
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Standard:
    """A promised time; `category` None: for every category of the kind without a line of its own."""

    kind: str
    standard: str
    limit_seconds: int
    category: str | None
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Street:
    """A subdistrict (街道); `street_code` is the 12-digit division code."""

    street_code: str
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in degrees, edges included."""

    min_lon: float
    max_lon: float
    min_lat: float
    max_lat: float

    def contains(self, lon: float, lat: float) -> bool:
        return self.min_lon <= lon <= self.max_lon and self.min_lat <= lat <= self.max_lat


class Verdict(NamedTuple):
    """`major`: of the kind asked for, or None. `category`: what the code names, for whichever kind."""

    standing: Standing
    major: Major | None
    category: Category | None

    @property
    def zh(self) -> str:
        """The most exact Chinese name found: the category's, else the major class's, else empty."""
        named = self.category or self.major
        return named.zh if named else ""

    @property
    def en(self) -> str:
        """The most exact English name found, as `zh`."""
        named = self.category or self.major
        return named.en if named else ""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """One edition of the table, immutable. A code means something only together with its edition."""

    edition: str
    edition_title: str
    timezone: ZoneInfo
    district_code: str
    district_zh: str
    district_en: str
    box: Box
    kinds: Mapping[str, Kind]
    majors: Mapping[tuple[str, str], Major]  # by (kind, major)
    categories: Mapping[tuple[str, str], Category]  # by (kind, code)
    stages: Mapping[str, Stage]
    standards: tuple[Standard, ...]
    streets: Mapping[str, Street]  # by street_code

    @classmethod
    def load(cls, directory: Path | None = None) -> Self:
        """Read the table in `directory`, or the one shipped in this package.

        Raises CatalogueError with all problems at once, whatever is missing, unreadable or wrong.
        """
        tables = read(files(__name__) if directory is None else directory)
        settings = tables.settings
        return cls(
            edition=settings["edition"],
            edition_title=settings["edition_title"],
            timezone=ZoneInfo(settings["timezone"]),
            district_code=settings["district.code"],
            district_zh=settings["district.zh"],
            district_en=settings["district.en"],
            box=Box(**{edge: float(settings[f"district.box.{edge}"]) for edge in Box.__slots__}),
            kinds=_kinds(tables),
            majors=_majors(tables),
            categories=_categories(tables),
            stages=_stages(tables),
            standards=_standards(tables),
            streets=_streets(tables),
        )

    @cached_property
    def topics(self) -> tuple[str, ...]:
        """Every topic a report can go to, sorted."""
        return tuple(sorted(major.topic for major in self.majors.values()))

    @cached_property
    def _limits(self) -> Mapping[tuple[str, str, str | None], int]:
        return {(s.kind, s.standard, s.category): s.limit_seconds for s in self.standards}

    @cached_property
    def _known(self) -> Mapping[tuple[str, str], Verdict]:
        return {
            (kind, code): Verdict(Standing.KNOWN, self.major(kind, code), category)
            for (kind, code), category in self.categories.items()
        }

    def major(self, kind: str, category_code: str) -> Major | None:
        """The major class a code belongs to, its minor listed or not; None also for what is no code."""
        return self.majors.get((kind, category_code[:2])) if _CODE.fullmatch(category_code) else None

    def lookup(self, kind: str, category_code: str) -> Verdict:
        """What the table says about a code; one that is not 4 or 5 digits is of no major class.

        A code that only another kind lists is OTHER_KIND even if its major is known in this one: a mistaken
        kind is likelier than a new minor. The verdict's `major` still says where the report could go.
        """
        if known := self._known.get((kind, category_code)):
            return known
        major = self.major(kind, category_code)
        if major and is_open(category_code):
            return Verdict(Standing.OPEN, major, None)
        for other in self.kinds:
            if category := self.categories.get((other, category_code)):
                return Verdict(Standing.OTHER_KIND, major, category)
        return Verdict(Standing.UNKNOWN_MINOR if major else Standing.UNKNOWN_MAJOR, major, None)

    def limit(self, kind: str, standard: str, category: str) -> int | None:
        """Seconds promised, the category's own line before its kind's; None: nothing is promised."""
        return self._limits.get((kind, standard, category), self._limits.get((kind, standard, None)))


def _kinds(tables: Tables) -> Mapping[str, Kind]:
    names = tables.settings
    kinds = (Kind(kind, names[f"kinds.{kind}.zh"], names[f"kinds.{kind}.en"]) for kind in kinds_in(names))
    return MappingProxyType({kind.kind: kind for kind in kinds})


def _majors(tables: Tables) -> Mapping[tuple[str, str], Major]:
    majors = (Major(**row.cells) for row in tables.rows["majors.csv"])
    return MappingProxyType({(major.kind, major.major): major for major in majors})


def _categories(tables: Tables) -> Mapping[tuple[str, str], Category]:
    rows = (row.cells for row in tables.rows["categories.csv"])
    categories = (Category(**cells, code=cells["major"] + cells["minor"]) for cells in rows)
    return MappingProxyType({(category.kind, category.code): category for category in categories})


def _stages(tables: Tables) -> Mapping[str, Stage]:
    stages = (Stage(**row.cells) for row in tables.rows["stages.csv"])
    return MappingProxyType({stage.stage: stage for stage in stages})


def _standards(tables: Tables) -> tuple[Standard, ...]:
    return tuple(
        Standard(
            kind=cells["kind"],
            standard=cells["standard"],
            limit_seconds=int(cells["limit_seconds"]),
            category=cells["category"] or None,
            zh=cells["zh"],
            en=cells["en"],
        )
        for cells in (row.cells for row in tables.rows["standards.csv"])
    )


def _streets(tables: Tables) -> Mapping[str, Street]:
    streets = (Street(**row.cells) for row in tables.rows["streets.csv"])
    return MappingProxyType({street.street_code: street for street in streets})
