"""What about a topic loses messages or the order of a case: one list, for `gridgov topics`, log and alarm."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from service.config import Config
from service.ports import Topic

HOUR_MS = 3_600_000
ROOMY = 256 * 1024  # bytes; the largest report takes a quarter of it


class Rule(NamedTuple):
    """One weakness: when a topic has it, and what it costs, with `topic` and `config` to be filled in."""

    met: Callable[[Topic, Config], bool]
    words: str


def _setting(name: str, bad: Callable[[str, Config], bool]) -> Callable[[Topic, Config], bool]:
    return lambda topic, config: name in topic.settings and bad(topic.settings[name], config)


# Harmless, each for its reason: compression.type (the same messages), segment.* (when, not what, is deleted),
# message.timestamp.type (no reader of ours goes by it; retention by the broker's clock is the safer one) and
# message.timestamp.*.max.ms (Kafka refuses a time, and the topic pauses: `topic_clock_wrong`).
RULES = (
    Rule(
        _setting("cleanup.policy", lambda policy, _: "compact" in policy),
        "cleanup.policy {topic.settings[cleanup.policy]}: of each case only the last message stays; set delete",
    ),
    Rule(
        _setting("retention.ms", lambda ms, config: 0 <= int(ms) < config.topic_retention_hours * HOUR_MS),
        "retention.ms {topic.settings[retention.ms]}: messages are deleted before"
        " GRIDGOV_TOPIC_RETENTION_HOURS ({config.topic_retention_hours}) have passed",
    ),
    Rule(
        _setting("retention.bytes", lambda size, _: int(size) >= 0),
        "retention.bytes {topic.settings[retention.bytes]}: a busy day deletes messages of whatever age; set -1",
    ),
    Rule(
        _setting("unclean.leader.election.enable", lambda on, _: on == "true"),
        "unclean.leader.election.enable true: a replica that lacks acknowledged messages may lead, and they are gone",
    ),
    Rule(
        lambda topic, _: topic.replication >= 2 and topic.min_in_sync < 2,
        "min.insync.replicas {topic.min_in_sync}: one broker's loss can lose acknowledged reports; set 2",
    ),
    Rule(
        lambda topic, config: topic.replication < config.topic_replication,
        "replication {topic.replication}, {config.topic_replication} wanted (GRIDGOV_TOPIC_REPLICATION)",
    ),
    Rule(
        lambda topic, config: topic.partitions != config.topic_partitions,
        "{topic.partitions} partition(s), {config.topic_partitions} configured (GRIDGOV_TOPIC_PARTITIONS): if they were"
        " added, cases have moved between them, and only journal-seq orders what was before with what came after",
    ),
    Rule(
        lambda topic, _: topic.max_message_bytes < ROOMY,
        "max.message.bytes {topic.max_message_bytes}: large reports will be parked",
    ),
)
SETTINGS = (  # that are asked for
    *("cleanup.policy", "max.message.bytes", "min.insync.replicas", "retention.bytes", "retention.ms"),
    "unclean.leader.election.enable",
)


def made_with(config: Config) -> Mapping[str, str]:
    """The settings of topics that we create, whatever the cluster's defaults: what we check against, no more."""
    return {"cleanup.policy": "delete", "retention.ms": str(config.topic_retention_hours * HOUR_MS)}


def weaknesses(topic: Topic, config: Config) -> list[str]:
    """What loses messages or their order, in words; empty when nothing does, or when there is no such topic."""
    if topic.partitions == 0:
        return []
    return [rule.words.format(topic=topic, config=config) for rule in RULES if rule.met(topic, config)]


def complaints(topic: Topic, config: Config) -> list[str]:
    """All that an operator should mend: also what it takes nothing for now, and what could not be looked at."""
    if not topic.writable:
        return [f"paused: {topic.pause}: it lacks Write (gridgov topics --acls)"]
    if topic.partitions == 0:
        return ["missing"]
    found = [f"paused: {topic.pause}"] if topic.pause else []
    if not topic.settings:
        found.append("its settings may not be read (DescribeConfigs): whether they lose messages is not known")
    return [*found, *weaknesses(topic, config)]
