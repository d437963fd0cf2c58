"""A row about the Kafka client itself: it makes mistakes of its own while it takes good records."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.faults.launcher import sabotage
from tests.faults.probes import flowing_from_start, on_lasting_broker, told
from tests.faults.rows import ROWS, Row, Seen, Setting
from tests.gridgov import until

MISTAKES = 5
REPORTS = 600


def errs(setting: Setting, **more: dict[str, Any]) -> Seen:
    """Now and then the client fails with a TypeError of its own on a good record: it is nobody's fault but its own."""
    log = setting.directory / "mistakes"
    odd = sabotage(erring_client={"share": 0.02, "most": MISTAKES, "seed": setting.seed, "log": str(log)}, **more)
    with on_lasting_broker(setting, **odd) as (one, _):
        flowing_from_start(one.gridgov)
        with one.clients(threads=8, pace=0.01) as clients:
            until(lambda: clients.answered >= REPORTS and log.stat().st_size == MISTAKES, "it has erred", seconds=120)
        found = one.judged(breaks=MISTAKES)
    parked = found.status["parked"]
    accepted = clients.told.keys() == {"accepted"}
    return told([], found.met and accepted and parked == 0, f"{MISTAKES} mistakes, {parked} parked; {found.figures}")


ROWS += [
    Row(
        "the Kafka client errs on good records",
        "202, 0 parked, 0 lost, in order",
        errs,
        partial(errs, blames_the_record_for_mistakes={}),
        "whatever the client fails with parks the record",
    ),
]
