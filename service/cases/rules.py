"""The district's promises, as the fold and whoever shows cases judge by them."""

from functools import lru_cache
from hashlib import blake2b

from schemas.catalogue import Catalogue
from schemas.words import Stage
from service.config import Config
from service.domain.standards import Rules


def rules_of(config: Config, catalogue: Catalogue) -> Rules:
    """What is promised, and when each clock starts."""
    clocks = {"repair": Stage(config.repair_clock), "incident": Stage(config.incident_clock)}
    return Rules(lru_cache(4096)(catalogue.limit), grace_ms=config.case_grace * 1000, clock_start=clocks)


def fingerprint(catalogue: Catalogue, rules: Rules) -> str:
    """The same for the same promises: while it is, no case needs to be looked at again."""
    said = (catalogue.standards, rules.grace_ms, sorted(rules.clock_start.items()))
    return blake2b(repr(said).encode(), digest_size=8).hexdigest()
