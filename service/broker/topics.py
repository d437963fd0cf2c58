"""What the cluster says of the catalogue's topics: are they there, may we write, how strong are they."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from kafka import KafkaAdminClient
from kafka import errors as kafka
from kafka.admin import ConfigResource, ConfigResourceType

from schemas import rejected
from service.broker.connection import connection, obstacle
from service.broker.weaknesses import SETTINGS, made_with, weaknesses
from service.config import Config
from service.ports import PauseReason, Topic

log = logging.getLogger(__name__)

WATCH_SECONDS = 2.0
TRY_SECONDS = 10.0  # between two looks for what is in the way


def wanted(catalogue: Iterable[str], config: Config) -> list[str]:
    """Every topic that is published to: the catalogue's, and that of what is refused."""
    return [*catalogue, *([rejected.TOPIC] if config.publish_rejects else [])]


class ClusterUnreachable(Exception):
    """No broker answered, or not in time. `obstacle`: what is in the way, as far as a try of our own has met it."""

    def __init__(self, told: str, obstacle: str | None = None) -> None:
        super().__init__(f"{told}; {obstacle}" if obstacle else told)
        self.obstacle = obstacle


class Cluster:
    """The admin's view of the cluster, connected when first asked. Every method may raise `ClusterUnreachable`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._admin: Any = None
        self._met: str | None = None
        self._try_at = 0.0

    def describe(self, names: Iterable[str]) -> dict[str, Topic]:
        """Every named topic, the missing ones too."""
        names = list(names)
        described = {entry["name"]: entry for entry in self._ask(lambda admin: admin.describe_topics(names))}
        there = [
            name for name, entry in described.items() if entry["partitions"] and _permits(entry, "DESCRIBE_CONFIGS")
        ]
        settings = self._settings(there) if there else {}
        return {name: _topic(name, described.get(name), settings.get(name, {})) for name in names}

    def create(
        self, names: Iterable[str], *, partitions: int, replication: int, settings: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Create topics; name → error for those that could not be."""
        options = {"num_partitions": partitions, "replication_factor": replication, "configs": dict(settings or {})}
        errors: dict[str, str] = {}
        for name in names:
            try:
                self._ask(partial(_create, name=name, options=options))
            except kafka.TopicAlreadyExistsError:
                continue
            except kafka.AuthorizationError:
                errors[name] = "not made: it lacks Create (gridgov topics --acls)"
            except kafka.BrokerResponseError as error:
                errors[name] = f"{type(error).__name__}: {error}"
        return errors

    def auto_creates(self) -> bool:
        """Whether the brokers create any topic that somebody names: a typing error would then lose its reports.

        False also where we may not look: it takes DescribeConfigs on the cluster, which nothing else of ours does.
        """
        nodes = self._ask(lambda admin: admin.describe_cluster())["brokers"]
        node = str(nodes[0]["broker_id"])
        resource = ConfigResource(ConfigResourceType.BROKER, node, {"auto.create.topics.enable": None})
        found = self._ask(lambda admin: admin.describe_configs([resource], config_filter="all"))
        return bool(found["broker"][node].get("auto.create.topics.enable", {}).get("value") == "true")

    def close(self) -> None:
        """Let the connection go."""
        admin, self._admin = self._admin, None
        if admin is not None:
            with suppress(Exception):  # it is broken already, or about to be forgotten
                admin.close()

    def _settings(self, names: list[str]) -> dict[str, dict[str, str]]:
        resources = [ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(SETTINGS)) for name in names]
        try:
            found = self._ask(lambda admin: admin.describe_configs(resources, config_filter="all"))
        except kafka.AuthorizationError:  # we may write but not describe configurations: go by the defaults
            return {}
        told = found.get("topic", {})
        return {name: {key: one["value"] for key, one in settings.items()} for name, settings in told.items()}

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        try:
            if self._admin is None:
                self._admin = KafkaAdminClient(**connection(self._config), client_id="gridgov-topics")
            return question(self._admin)
        except kafka.BrokerResponseError as error:
            if error.retriable:
                raise ClusterUnreachable(f"{type(error).__name__}: {error}") from error
            raise
        except (kafka.KafkaError, OSError) as error:
            self.close()
            raise ClusterUnreachable(f"{type(error).__name__}: {error}", self._obstacle()) from error

    def _obstacle(self) -> str | None:
        """Seldom looked for: where packets are dropped it takes a second."""
        if time.monotonic() >= self._try_at:
            self._met = obstacle(self._config)
            self._try_at = time.monotonic() + TRY_SECONDS
        return self._met


def _create(admin: Any, *, name: str, options: Mapping[str, Any]) -> None:
    admin.create_topics({name: options})


def _topic(name: str, entry: dict[str, Any] | None, settings: dict[str, str]) -> Topic:
    if entry is None or not entry["partitions"]:
        denied = entry is not None and kafka.for_code(entry["error_code"]) is kafka.TopicAuthorizationFailedError
        return Topic(name, writable=not denied)
    parts = entry["partitions"]
    return Topic(
        name,
        partitions=len(parts),
        replication=min(len(part["replica_nodes"]) for part in parts),
        in_sync=min(len(part["isr_nodes"]) for part in parts),
        leaderless=any(part["leader_id"] < 0 for part in parts),
        writable=_permits(entry, "WRITE"),
        settings=settings,
        id=str(entry["topic_id"]),
        **{
            field: int(settings[key])
            for key, field in (("max.message.bytes", "max_message_bytes"), ("min.insync.replicas", "min_in_sync"))
            if key in settings
        },
    )


def _permits(entry: dict[str, Any], operation: str) -> bool:
    """Whether the cluster lets us; also where it does not tell."""
    allowed = entry.get("authorized_operations")
    return not allowed or operation in allowed


class TopicWatch:
    """Asks the cluster every two seconds on a thread of its own; the relay looks at the last answer.

    With `create_topics` it also creates what is missing. `changed` is called when an answer differs from the last,
    `weak` for each topic with the number of its weaknesses when that changes; the log names them.
    """

    def __init__(
        self, cluster: Cluster, config: Config, changed: Callable[[], None], weak: Callable[[str, int], None]
    ) -> None:
        self._cluster, self._config, self._changed, self._count_weak = cluster, config, changed, weak
        self._weak: dict[str, list[str]] = {}
        self._known: dict[str, Topic] = {}  # as each was when it was last there
        self._names: tuple[str, ...] = ()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="topic-watch", daemon=True)
        self._obstacle: str | None = None  # the one that was told last
        self.reachable = False
        self.topics: dict[str, Topic] = {}

    def start(self, names: Iterable[str]) -> None:
        """Begin to ask about these topics."""
        self._names = tuple(names)
        self._thread.start()

    def add(self, names: Iterable[str]) -> None:
        """Ask about these too."""
        self._names = tuple(dict.fromkeys((*self._names, *names)))

    def stop(self) -> None:
        """Ask no more; waits for the question under way, bounded."""
        self._stop.set()
        self._thread.join(10)
        self._cluster.close()

    def pause(self, name: str) -> PauseReason | None:
        """Why nothing can be published to a topic as of the last answer, or None."""
        topic = self.topics.get(name)
        return topic.pause if topic else PauseReason.UNKNOWN

    def _run(self) -> None:
        while not self._stop.is_set():
            before = (self.reachable, self.topics)
            try:
                self._look()
                self.reachable = True
            except (ClusterUnreachable, kafka.KafkaError) as error:
                self._tell_away(error, new=self.reachable or not before[1])
                self.reachable = False
            except Exception:
                log.exception("cluster not described")
                self._cluster.close()
                self.reachable = False
            if before != (self.reachable, self.topics):
                self._changed()
            self._stop.wait(WATCH_SECONDS)

    def _tell_away(self, error: Exception, *, new: bool) -> None:
        """Log it once, and again when something else is in the way."""
        met = getattr(error, "obstacle", None)
        level = logging.WARNING if new or met not in (None, self._obstacle) else logging.DEBUG
        self._obstacle = met or self._obstacle
        log.log(level, "cluster unreachable", extra={"error": str(error)[:500]})

    def _look(self) -> None:
        found = self._cluster.describe(self._names)
        missing = [name for name, topic in found.items() if topic.pause is PauseReason.MISSING]
        if missing and self._config.create_topics:
            errors = self._cluster.create(
                missing,
                partitions=self._config.topic_partitions,
                replication=self._config.topic_replication,
                settings=made_with(self._config),
            )
            for name, error in errors.items():
                log.error("topic not created", extra={"topic": name, "error": error})
            found = self._cluster.describe(self._names)
        for topic in found.values():
            self._tell(topic)
        self.topics = found

    def _tell(self, topic: Topic) -> None:
        """Log what loses messages or their order, when it is new, and count it."""
        weak, known = weaknesses(topic, self._config), self._known.get(topic.name)
        changed = weak != self._weak.get(topic.name, [])
        if changed:
            log.log(
                logging.ERROR if weak else logging.INFO,
                "topic weak" if weak else "topic mended",
                extra={"topic": topic.name, "weaknesses": weak},
            )
        if known is not None and topic.partitions and known.id != topic.id:
            log.error("topic made anew", extra={"topic": topic.name})  # what was settled and not read is gone
        elif known is not None and topic.partitions and known.partitions != topic.partitions:
            log.error("partitions added", extra={"topic": topic.name, "partitions": topic.partitions})
        if topic.partitions:
            self._known[topic.name] = topic
        if changed:
            self._weak[topic.name] = weak
            self._count_weak(topic.name, len(weak))
