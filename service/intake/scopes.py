"""What a key may be used for: whose cases, which reports, from where, how often. All of it data, of the key file."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import lru_cache
from typing import Any

from schemas.words import Kind

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MOST_REPORTS = 1_000_000  # a second: more is no limit
_CATEGORY = re.compile("[0-9]{2}|[0-9]{4,5}")


class Cases(StrEnum):
    """Of which cases a sender may speak."""

    OWN = "own"  # those it reported first
    ALL = "all"  # the district's platform, the one that supervises


class ScopeError(ValueError):
    """A scope that cannot be, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Empty means: no limit of that sort."""

    cases: Cases = Cases.OWN
    kinds: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()  # whole ones, or major classes
    networks: tuple[Network, ...] = ()
    rate: int | None = None  # reports a second; None: the usual

    @property
    def speaks_for_all(self) -> bool:
        """Whether what its sender says counts in cases that others reported."""
        return self.cases is Cases.ALL

    @property
    def every_report(self) -> bool:
        """Whether it takes no look at a report to know that it may be sent."""
        return not (self.kinds or self.categories)

    def covers(self, kind: str, category: str) -> bool:
        """Whether a report of this kind and category may be sent."""
        if self.kinds and kind not in self.kinds:
            return False
        return not self.categories or category in self.categories or category[:2] in self.categories

    def admits(self, address: str) -> bool:
        """Whether the key may be used from there."""
        return not self.networks or inside(address, self.networks)

    def dump(self) -> dict[str, Any]:
        """As the key file has it: only what limits; `parse` is its inverse."""
        said: dict[str, Any] = {"cases": self.cases.value}
        if self.kinds:
            said["kinds"] = sorted(self.kinds)
        if self.categories:
            said["categories"] = sorted(self.categories)
        if self.networks:
            said["networks"] = [str(network) for network in self.networks]
        return said | ({} if self.rate is None else {"rate": self.rate})

    def __str__(self) -> str:
        listed = {name: ",".join(map(str, v)) if isinstance(v, list) else v for name, v in self.dump().items()}
        return " ".join(f"{name}={value}" for name, value in listed.items())


NOTHING_BARRED = Scope(cases=Cases.ALL)


def parse(said: Mapping[str, Any]) -> Scope:
    """The scope that the key file, or a command line, spells. Raises `ScopeError`."""
    if unknown := said.keys() - {one.name for one in fields(Scope)}:
        raise ScopeError(f"a scope has no {', '.join(sorted(map(str, unknown)))}")
    cases, rate = said.get("cases", Cases.OWN.value), said.get("rate")
    if cases not in [*Cases]:
        raise ScopeError(f"cases is own or all, not {cases!r}")
    if rate is not None and not (type(rate) is int and 1 <= rate <= MOST_REPORTS):
        raise ScopeError(f"rate is a whole number of reports a second from 1 to {MOST_REPORTS}, not {rate!r}")
    kinds, categories = frozenset(_texts(said, "kinds")), frozenset(_texts(said, "categories"))
    if wrong := kinds - {*Kind}:
        raise ScopeError(f"kinds are {' and '.join(Kind)}, not {', '.join(sorted(wrong))}")
    if wrong := frozenset(one for one in categories if not _CATEGORY.fullmatch(one)):
        raise ScopeError(f"categories are major classes (02) or whole ones (0211), not {', '.join(sorted(wrong))}")
    return Scope(Cases(cases), kinds, categories, networks(_texts(said, "networks")), rate)


def _texts(said: Mapping[str, Any], name: str) -> list[str]:
    given = said.get(name, [])
    if not isinstance(given, list | tuple) or not all(isinstance(one, str) for one in given):
        raise ScopeError(f"{name} is a list of texts")
    return [*given]


def networks(given: list[str] | tuple[str, ...]) -> tuple[Network, ...]:
    """Networks as CIDR spells them, or single addresses. Raises `ScopeError`."""
    try:
        return tuple(ipaddress.ip_network(one) for one in given)
    except ValueError as error:  # says which, and what about it
        raise ScopeError(f"networks are such as 10.1.0.0/16 or 2001:db8::/32: {error}") from error


@lru_cache(4096)  # the same few senders, over and over
def inside(address: str, of: tuple[Network, ...]) -> bool:
    """Whether an address is in one of the networks; an IPv4 address that IPv6 wraps is that IPv4 address."""
    try:
        here = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any((getattr(here, "ipv4_mapped", None) or here) in network for network in of)
