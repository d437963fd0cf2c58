"""Rows about one topic that takes nothing, or not everything, while the others must flow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

from tests.broker import Broker
from tests.faults.rows import ROWS, Row, Seen, Setting
from tests.faults.trial import WATCH_SECONDS, Kept, Trial, age, flowing, trial
from tests.gridgov import Gridgov, until
from tests.system.checker import Json
from tests.system.clients import Clients
from tests.system.sick_topic import (
    OTHERS,
    ROOMY,
    SICK,
    SICK_TOPIC,
    SMALL_LIMIT,
    lags,
    milliseconds,
    post_big,
    set_limit,
    states,
)

OURS, THEIRS = "User:ANONYMOUS", "User:somebody-else"
AUTHORISED = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
CALM_SECONDS = 3.0
LAG_SECONDS = 1.0  # that a healthy topic's reports may take more than in the calm

Broken = Mapping[str, str] | None
Admin = Any  # kafka-python's admin has no types


@dataclass(frozen=True)
class Trouble:
    """What happens to the topic while it lasts, and the reason that /readyz must then tell."""

    lasts: Callable[[Admin], AbstractContextManager[None]]
    reason: str


def sick_topic(
    setting: Setting, troubles: Sequence[Trouble], broken: Broken = None, settings: Mapping[str, str] | None = None
) -> Seen:
    """One trouble after the other befalls the topic; in between and afterwards it is well."""
    kafka = Broker(setting.directory / "kafka", settings=settings)
    with trial(setting, kafka, GRIDGOV_CREATE_TOPICS="no") as one, Kept(one.gridgov, "web", "relay", broken=broken):
        until(lambda: one.gridgov.run("topics", "--apply").returncode == 0, "every topic is there")
        flowing(one.gridgov)
        with (
            closing(KafkaAdminClient(bootstrap_servers=kafka.bootstrap)) as admin,
            one.clients("healthy", threads=4, pace=0.02, where=OTHERS) as healthy,
            one.clients("sick", threads=2, pace=0.02, where=[SICK]) as sick,
        ):
            until(lambda: sick.answered >= 50 and healthy.answered >= 200, "posts flow")
            time.sleep(CALM_SECONDS)
            begin = time.time()
            seen = [_befallen(one, admin, trouble, sick) for trouble in troubles]
            end = time.time()
        receipts = _receipts(one)
        gone = {name for told in seen for name in told.vanished(receipts)}
        found = one.judged(breaks=20, excused=gone)
    accepted = (healthy.told + sick.told).keys() == {"accepted"}
    told = all(one.told for one in seen)
    slower, lagged = _slower(receipts, begin, end)
    figures = (
        f"{' and '.join(str(one.waiting) for one in seen)} waited, told {told},"
        f" {len(gone)} had been acknowledged and were deleted; {lagged}; {found.figures}"
    )
    return Seen(found.met and accepted and told and slower < LAG_SECONDS and all(one.waiting for one in seen), figures)


@dataclass(frozen=True)
class Befallen:
    """How many reports waited, whether the reason was told, and since when (ms) the topic's records were no more."""

    waiting: int
    told: bool
    deleted_at: float

    def vanished(self, receipts: Mapping[str, Json]) -> Iterator[str]:
        """The reports that were in the topic when it was deleted."""
        for name, one in receipts.items():
            if one["topic"] == SICK_TOPIC and milliseconds(one["settled_at"]) <= self.deleted_at:
                yield name


def _befallen(one: Trial, admin: Admin, trouble: Trouble, sick: Clients) -> Befallen:
    before = sick.answered
    with trouble.lasts(admin):
        time.sleep(WATCH_SECONDS)
        now = time.time() * 1000
        until(lambda: sick.answered >= before + 200, "they are accepted", seconds=60)
        told = f"{trouble.reason}:{SICK_TOPIC}" in one.gridgov.get("/readyz")[1]["reasons"]
        waiting = int(one.gridgov.status()["pending"])
    until(lambda: age(one.gridgov) < 1, "it flows again", seconds=60)
    flowing(one.gridgov)
    return Befallen(waiting, told, now if trouble.reason == "topic_missing" else 0)


def _receipts(one: Trial) -> dict[str, Json]:
    one.gridgov.settled(120)
    return {name: one.gridgov.get(f"/v1/reports/{name}")[1] for name in one.ledger.read()[1]}


def _slower(receipts: Mapping[str, Json], begin: float, end: float) -> tuple[float, str]:
    """By how many seconds the healthy topics' slowest report of the trouble took longer than that of the calm."""
    spans = ((begin - CALM_SECONDS, begin), (begin, end))
    calm, trouble = (max(lags(receipts, *span, lambda topic: topic != SICK_TOPIC)) for span in spans)
    return trouble - calm, f"the others took at most {calm:.2f} s in the calm, {trouble:.2f} s meanwhile"


# ---- forbidden, deleted ----


def _rule(
    principal: str,
    operation: ACLOperation = ACLOperation.ALL,
    permission: ACLPermissionType = ACLPermissionType.ALLOW,
) -> ACL:
    return ACL(principal, "*", operation, permission, ResourcePattern(ResourceType.TOPIC, SICK_TOPIC))


@contextmanager
def forbidden(admin: Admin) -> Iterator[None]:
    """We may do nothing with it: there is a rule, and it is for somebody else."""
    admin.create_acls([_rule(THEIRS)])
    yield
    admin.delete_acls([_rule(THEIRS)])


@contextmanager
def unwritable(admin: Admin) -> Iterator[None]:
    """We may see it and not write to it."""
    rules = [_rule(OURS), _rule(OURS, ACLOperation.WRITE, ACLPermissionType.DENY)]
    admin.create_acls(rules)
    yield
    admin.delete_acls(rules)


@contextmanager
def deleted(admin: Admin) -> Iterator[None]:
    """It is gone with all that it held, and made again."""
    admin.delete_topics([SICK_TOPIC])
    yield
    admin.create_topics({SICK_TOPIC: {"num_partitions": 3, "replication_factor": 1}})


# ---- poisoned ----


def poison(setting: Setting, broken: Broken = None) -> Seen:
    """Kafka takes no large record on the topic any more; small ones go on. Later it does, and they are requeued."""
    kafka = Broker(setting.directory / "kafka")
    with trial(setting, kafka) as one, Kept(one.gridgov, "web", "relay", broken=broken):
        run = one.gridgov
        flowing(run)
        with (
            one.clients("healthy", threads=4, pace=0.02, where=OTHERS) as healthy,
            one.clients("small", threads=2, pace=0.02, where=[SICK]) as small,
        ):
            until(lambda: small.answered >= 50 and healthy.answered >= 200, "posts flow")
            time.sleep(CALM_SECONDS)
            begin = time.time()
            set_limit(kafka.bootstrap, SMALL_LIMIT)
            big = post_big(run, one.ledger, one.prefix, 3)
            time.sleep(WATCH_SECONDS)
            parked = states(run, big) == {("parked", "record_too_large")}
            passing = age(run) < 1
            end = time.time()
            set_limit(kafka.bootstrap, ROOMY)
        told = "messages_parked" in run.get("/readyz")[1]["reasons"]
        moved = dict[int, int]()
        until(partial(_requeued, run, moved), "nothing is parked any more", seconds=60)
        receipts = _receipts(one)
        found = one.judged(breaks=1 + len(big))  # a record that the broker refuses may cost a producer
    slower, lagged = _slower(receipts, begin, end)
    accepted = (healthy.told + small.told).keys() == {"accepted"}
    fresh = len(moved) >= len(big) and all(new > old for old, new in moved.items())
    figures = (
        f"{len(big)} parked {parked}, told {told}, {len(moved)} requeued under higher seqs {fresh}; {lagged};"
        f" {found.figures}"
    )
    return Seen(found.met and accepted and parked and passing and told and fresh and slower < LAG_SECONDS, figures)


def _requeued(run: Gridgov, moved: dict[int, int]) -> bool:
    """Once more if the relay does not know yet that the limit was raised."""
    for line in run.run("journal", "requeue", "--all").stdout.splitlines():
        old, new = line.split(" -> ")
        moved[int(old)] = int(new)
    return bool(run.settled()["parked"] == 0)


FORBIDDEN = (Trouble(forbidden, "topic_unauthorised"), Trouble(unwritable, "topic_unauthorised"))
DELETED = (Trouble(deleted, "topic_missing"),)
LANES = {"relay": "lanes"}

ROWS += [
    Row(
        "forbidden topic",
        "202; it waits and is told; the others' lag < 1 s more",
        partial(sick_topic, troubles=FORBIDDEN, settings=AUTHORISED),
        partial(sick_topic, troubles=FORBIDDEN, settings=AUTHORISED, broken=LANES),
        "one line for all topics",
    ),
    Row(
        "deleted topic",
        "202; it waits and is told; the others' lag < 1 s more",
        partial(sick_topic, troubles=DELETED),
        partial(sick_topic, troubles=DELETED, broken=LANES),
        "one line for all topics",
    ),
    Row(
        "poison record",
        "202; parked, told, the rest flows; requeued later, 0 lost",
        poison,
        partial(poison, broken={"relay": "parking"}),
        "it is tried again for ever",
    ),
]
