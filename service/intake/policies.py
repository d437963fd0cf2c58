"""What becomes of personal data, by field and by sender: a TOML file that the district writes.

[default]                       # for every sender; what is not said stays strict
reporter_phone = "mask"         # drop (default), mask, keep
[senders.platform-a]            # for this one
description = "keep"            # mask (default), keep
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from schemas.personal import STRICT, Policy, Rule

_FIELDS = tuple(one.name for one in fields(Policy))


class PolicyError(Exception):
    """What is wrong with the file: every problem, one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Policies:
    """The policy of each sender, and that of the others."""

    default: Policy = STRICT
    senders: Mapping[str, Policy] = field(default_factory=dict)

    def of(self, sender: str) -> Policy:
        """A sender's policy."""
        return self.senders.get(sender, self.default)

    @classmethod
    def load(cls, path: Path | None, free_text: str) -> "Policies":
        """From the file; `free_text` (mask or keep) is the default for all free text. Raises `PolicyError`."""
        rule = Rule(free_text)
        default = replace(STRICT, description=rule, address=rule, names=rule, extra=rule)
        if path is None:
            return cls(default)
        told = _read(path)
        problems = list(_problems(told))
        if problems:
            raise PolicyError(problems)
        default = _changed(default, told.get("default", {}))
        return cls(default, {name: _changed(default, said) for name, said in told.get("senders", {}).items()})


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PolicyError([str(error)]) from error


def _problems(told: Mapping[str, Any]) -> Iterator[str]:
    senders = told.get("senders", {})
    if not isinstance(senders, dict):
        yield "senders: must be tables such as [senders.platform-a]"
        senders = {}
    yield from (
        f"{name}: no such table; there are default and senders" for name in told.keys() - {"default", "senders"}
    )
    for where, said in (("default", told.get("default", {})), *senders.items()):
        if not isinstance(said, dict):
            yield f"{where}: must be a table"
            continue
        for name, rule in said.items():
            allowed = [one.value for one in Rule if one is not Rule.DROP or name.startswith("reporter_")]
            if name not in _FIELDS:
                yield f"{where}.{name}: no such field; there are {', '.join(_FIELDS)}"
            elif rule not in allowed:
                yield f"{where}.{name}: must be one of {', '.join(allowed)}"


def _changed(policy: Policy, said: Mapping[str, str]) -> Policy:
    return replace(policy, **{name: Rule(rule) for name, rule in said.items()})


STRICTEST = Policies()
