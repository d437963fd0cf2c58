"""The composition root: builds every object by name, in the order of the flow; nothing else wires the parts."""

import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flask import Blueprint
from prometheus_client import CollectorRegistry

from schemas import rejected
from schemas.catalogue import Catalogue, CatalogueError
from schemas.reasons import Reason
from service import config as configuration
from service import docs, ops, watchdog
from service.audit.desk import Desk
from service.audit.trail import Trail
from service.broker.publisher import KafkaPublisher, check_client
from service.broker.topics import Cluster, TopicWatch
from service.cases import api as case_api
from service.cases.fold import CaseFold
from service.cases.metrics import CaseCollector
from service.cases.rules import fingerprint, rules_of
from service.config import Config, ConfigError
from service.domain.meaning import Flag
from service.intake.accept import Intake
from service.intake.api import UNMATCHED, Api
from service.intake.gate import Gate
from service.intake.health import WebHealth
from service.intake.keys import Keys, KeysError
from service.intake.loop import Gates, Loop
from service.intake.policies import Policies, PolicyError
from service.journal.side import Journal
from service.journal.sqlite import unfit
from service.journal.writer import Writer
from service.metrics import JournalCollector, RelayMetrics, WebMetrics, registry, relay_metrics, web_metrics
from service.peers import Alone, Team, Together
from service.ports import Feed, JournalError
from service.processes import die_with_parent
from service.quarantine.intake import QuarantineDesk
from service.quarantine.publish import RejectsPublisher
from service.quarantine.store import Quarantine, exists
from service.relay.chores import DAY_MS, Chores
from service.relay.health import RelayHealth
from service.relay.pulse import Pulse
from service.relay.relay import Relay
from service.storage.storage import Storage, chosen

log = logging.getLogger(__name__)

SWITCH_SECONDS = 0.001
COLLECT_OBJECTS = 50_000  # new containers before Python looks for garbage cycles; by default 700, a third of a request
YIELDS = 5  # how much nicer the relay is: where the cores are short, the platform's answers come before a backlog


def checked(config: Config) -> Catalogue:
    """The catalogue, after everything that can be wrong before start was looked at. Raises `ConfigError` with all."""
    problems: list[str] = []
    catalogue = None
    if sys.flags.optimize:
        problems.append(
            "Python runs with -O (or PYTHONOPTIMIZE), which takes out asserts that the Kafka client's work is done in:"
            " reports would be accepted and never reach Kafka; start it without"
        )
    try:
        catalogue = Catalogue.load(config.catalogue_dir)
    except CatalogueError as error:
        problems += [f"catalogue: {problem}" for problem in error.problems]
    if config.keys_file is not None and not config.keys_file.exists():
        problems.append(f"GRIDGOV_KEYS_FILE={config.keys_file}: no such file; `gridgov keys add` makes it")
    try:
        Policies.load(config.personal_data_file, config.personal_numbers)
    except PolicyError as error:
        problems += [f"GRIDGOV_PERSONAL_DATA_FILE={config.personal_data_file}: {problem}" for problem in error.problems]
    try:
        if not Keys(config.keys).configured and not config.loopback:
            problems.append(
                f"GRIDGOV_HOST={config.host}: no API key is configured, so only a loopback address may be bound;"
                " make a key first: gridgov keys add NAME --role sender"
            )
    except KeysError as error:
        problems.append(f"keys: {error}")
    try:
        chosen(config)
    except ConfigError as error:
        problems += error.problems
    if config.journal is None and not config.allow_volatile and (why := unfit(config.data_dir)):
        problems.append(f"GRIDGOV_DATA_DIR={config.data_dir}: {why}")
    if problems or catalogue is None:
        raise ConfigError(problems)
    return catalogue


@contextmanager
def _journal_or_end() -> Iterator[None]:
    """Ends the process when its journal cannot be used: whoever keeps it going tries again."""
    try:
        yield
    except JournalError as error:
        log.critical("journal unusable, stopping", extra={"error": str(error)})
        raise SystemExit(os.EX_IOERR) from error


@_journal_or_end()
def web(team: Team) -> Loop:
    """A web process of `team`, as the HTTP server calls for it in its worker."""
    die_with_parent()
    _take_turns()
    config = configuration.load(os.environ)
    catalogue = checked(config)
    counted = CollectorRegistry() if team.size > 1 else None  # what is to be added up
    rules, told = rules_of(config, catalogue), registry("web", counted=counted)
    metrics = _web_metrics(counted or told, catalogue)
    storage = chosen(config)
    journal = storage.accepting()
    told.register(JournalCollector(journal))
    gates = Gates()
    writer = Writer(journal, queue=config.queue, seconds=metrics.append_seconds, broken=_fail_stop, gate=gates)
    quarantine = _quarantine(config, catalogue, metrics)
    intake = Intake(
        catalogue,
        writer,
        metrics,
        clock=_now,
        accept_unknown_minor=config.unknown_minor == "accept_and_flag",
        give_way=gates.give_way,
        policies=Policies.load(config.personal_data_file, config.personal_numbers),
        quarantine=quarantine.refused,
    )
    keys = _keys(config, metrics)
    health = WebHealth(journal, writer, storage.heard, keys)
    audit = Desk(Trail(config.audit, keep_days=config.audit_days), metrics.audit_unwritten)
    alone = Alone(health.alive, ops.mentioning(health.ready, audit.ailment))
    asked = Together(team, counted, alone) if counted else alone
    listens = threading.Event()  # who is told that all is well may come at once
    probes = _probes(config, told, asked, storage, listens)
    gate = _gate(config, keys, pause=lambda seconds: gates().wait(seconds))
    cases = case_api.CaseReader(lambda: storage.casebook(rules, make=False), journal, rules)
    api = Api(intake, journal, gate, catalogue=catalogue, metrics=metrics, audit=audit.refused)
    audit.start()
    quarantine.start()
    app = api.app(probes, docs.blueprint(), case_api.blueprint(cases, gate))
    gate.guard(app, probes.name)
    _collect_seldom()
    watchdog.tell(os.environ if asked.first else {}, lambda: listens.is_set() and asked.alive())  # for all
    return Loop(app.wsgi_app, threads=config.threads, listens=listens.set)


@_journal_or_end()
def relay() -> None:
    """The relay process: waits to be the leader, then publishes until SIGTERM."""
    _take_turns()
    os.nice(YIELDS)
    config = configuration.load(os.environ)
    catalogue = checked(config)
    check_client()
    told = registry("relay")
    metrics = relay_metrics(told, [*catalogue.topics, *_beside(config)])
    wake, stop = _until_a_signal()
    storage = chosen(config)
    leadership, pulse = storage.leadership(metrics.leader), storage.pulse()
    health = RelayHealth(leadership, pulse)
    probes = ops.blueprint(told, alive=health.alive, ready=health.ready)
    ops.serve(probes, config.metrics_host, config.relay_metrics_port)
    watchdog.tell(os.environ, health.alive)
    watch = TopicWatch(
        Cluster(config), config, wake.set, lambda topic, weak: metrics.weaknesses.labels(topic).set(weak)
    )
    rejects = _rejects(config, watch)
    if storage.shared:  # what each replica has refused is in its own files, whoever leads
        _publish(config, catalogue, watch, rejects, stop)
    if leadership.wait(stop):
        journal = storage.leading()
        if not storage.shared:
            _publish(config, catalogue, watch, rejects, stop)
        _lead(config, catalogue, storage, journal, watch, told=told, metrics=metrics, pulse=pulse, wake=wake, stop=stop)
    elif not storage.shared:
        return
    rejects.join()
    watch.stop()


def _publish(
    config: Config, catalogue: Catalogue, watch: TopicWatch, rejects: RejectsPublisher, stop: threading.Event
) -> None:
    """Begin to look at the cluster, and to publish what was refused here."""
    watch.start([*catalogue.topics, *_beside(config)])
    if config.publish_rejects:
        rejects.start(stop)


def _lead(
    config: Config,
    catalogue: Catalogue,
    storage: Storage,
    journal: Journal,
    watch: TopicWatch,
    *,
    told: CollectorRegistry,
    metrics: RelayMetrics,
    pulse: Pulse,
    wake: threading.Event,
    stop: threading.Event,
) -> None:
    """What a leader does, until `stop`."""
    topics = sorted({*catalogue.topics, *journal.topics()})  # the catalogue may have changed since one was accepted
    watch.add(topics)
    fold = _fold(config, catalogue, journal, storage)
    told.register(CaseCollector(fold, catalogue))
    mover = Relay(
        journal,
        lambda: KafkaPublisher(config, journal_id=journal.journal_id, wake=wake.set),
        watch,
        metrics,
        topics=topics,
        window=config.relay_window,
        wake=wake,
        clock=time,
        folded=lambda: fold.folded,
        handed=fold.look,
        relieve=storage.relieve,
    )
    chores = Chores(
        journal,
        pulse,
        watch,
        metrics,
        paused=mover.paused,
        serve=(watch.add, mover.serve),
        relieve=storage.relieve,
        restore=storage.restore,
        dedupe_days=config.dedupe_days,
        clock=time,
    )
    _collect_seldom()
    fold.start(stop)
    mover.run(stop, chores)
    fold.join()


def _rejects(config: Config, watch: TopicWatch) -> RejectsPublisher:
    return RejectsPublisher(
        lambda: Quarantine(config.data_dir, limit=config.quarantine_limit) if exists(config.data_dir) else None,
        lambda quarantine: KafkaPublisher(config, journal_id=quarantine, wake=lambda: None),
        watch,
    )


def _beside(config: Config) -> list[str]:
    """Topics that are not the catalogue's."""
    return [rejected.TOPIC] if config.publish_rejects else []


def _web_metrics(told: CollectorRegistry, catalogue: Catalogue) -> WebMetrics:
    return web_metrics(
        told,
        routes=[*Api.ROUTES, *case_api.ROUTES, *docs.ROUTES, *ops.ROUTES, UNMATCHED],
        majors=catalogue.majors,
        stages=list(catalogue.stages),
        reasons=list(Reason),
        flags=list(Flag),
    )


def _quarantine(config: Config, catalogue: Catalogue, metrics: WebMetrics) -> QuarantineDesk:
    return QuarantineDesk(
        config.data_dir,
        metrics.quarantine,
        open=lambda: Quarantine(config.data_dir, limit=config.quarantine_limit),
        edition=catalogue.edition,
        keep_days=config.quarantine_days,
    )


def _probes(
    config: Config, told: CollectorRegistry, asked: Alone | Together, storage: Storage, listens: threading.Event
) -> Blueprint:
    """What this process tells for itself or, where several serve together, each of them for all."""
    if isinstance(asked, Together):
        told.register(asked)
    probes = ops.blueprint(told, alive=asked.alive, ready=asked.ready, also=storage.told)
    if asked.first:
        ops.serve(probes, config.metrics_host, config.web_metrics_port, begin=listens.wait)
    return probes


def _gate(config: Config, keys: Keys, pause: Callable[[float], object]) -> Gate:
    return Gate(
        keys,
        rate=config.sender_rate,
        share=config.sender_requests,
        failures=config.auth_failures,
        proxies=config.trusted_proxies,
        trusted=config.trusted_networks,
        processes=config.web_processes,
        pause=pause,
    )


def _keys(config: Config, metrics: WebMetrics) -> Keys:
    keys = Keys(config.keys, used=config.data_dir / "keys-used.json")
    metrics.keys_stale.set_function(lambda: keys.problem is not None)
    if not keys.configured:
        log.warning(
            "no API key: whoever is on this machine may post and read everything; see `gridgov keys add --help`"
        )
    return keys


def _fold(config: Config, catalogue: Catalogue, journal: Feed, storage: Storage) -> CaseFold:
    rules = rules_of(config, catalogue)
    return CaseFold(
        journal,
        lambda: storage.casebook(rules),
        rules,
        fingerprint(catalogue, rules),
        clock=_now,
        strip_after_ms=config.case_keep_days * DAY_MS,
        relieve=storage.relieve,
    )


def _until_a_signal() -> tuple[threading.Event, threading.Event]:
    """What wakes the relay, and what ends it; SIGTERM and SIGINT do both."""
    wake, stop = threading.Event(), threading.Event()

    def end(*_: object) -> None:
        stop.set()
        wake.set()

    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, end)
    return wake, stop


def _take_turns() -> None:
    """Let the thread that holds the journal's lock have Python's soon: by default it waits 5 ms for it each time."""
    sys.setswitchinterval(SWITCH_SECONDS)


def _collect_seldom() -> None:
    """Once everything is built: look for garbage cycles seldom, and never again among what stays for good."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_OBJECTS, 20, 20)


def _now() -> int:
    return int(time.time() * 1000)


def _fail_stop() -> None:
    """End this process: its journal cannot be trusted. A moment first, for the 503s of the last group to leave."""
    log.critical("journal broken, stopping")
    time.sleep(0.5)
    os._exit(os.EX_IOERR)
