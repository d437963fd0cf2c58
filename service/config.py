"""One frozen `Config` from the environment; each option declared once with name, default, parser, unit and meaning."""

from __future__ import annotations

import ipaddress
import os
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

MOST_PROCESSES = 64  # of the web: more than one disk's flushes can feed

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ConfigError(Exception):
    """What is wrong with the configuration: every problem, one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _option(
    default: str, parse: Callable[[str], Any], unit: str, doc: str, *, env: str = "", secret: bool = False
) -> Any:
    said = {"default": default, "parse": parse, "unit": unit, "doc": doc, "env": env, "secret": secret}
    return field(metadata=said)


def _text(raw: str) -> str:
    if not raw:
        raise ValueError("must not be empty")
    return raw


def _optional(raw: str) -> str | None:
    return raw or None


def _path(raw: str) -> Path:
    if any(unicodedata.category(character) == "Cc" for character in raw):
        raise ValueError("must have no control characters in it, such as a line end")
    if not _is_utf_8(raw):
        raise ValueError("must be UTF-8, as is the machine's encoding of file names (LANG): SQLite opens no others")
    try:
        return Path(_text(raw)).expanduser()
    except RuntimeError as error:  # ~somebody who has no home here
        raise ValueError(str(error)) from error


def _is_utf_8(path: str) -> bool:
    try:
        return path.encode() == os.fsencode(path)
    except UnicodeEncodeError:  # bytes that the machine's encoding does not know
        return False


def _optional_path(raw: str) -> Path | None:
    return _path(raw) if raw else None


def _between(low: int, high: int) -> Callable[[str], int]:
    def parse(raw: str) -> int:
        if not (raw.isascii() and raw.isdigit() and low <= int(raw) <= high):
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(raw)

    return parse


def _processes(raw: str) -> int:
    """One core is left to the relay and the rest of the machine."""
    return max(1, len(os.sched_getaffinity(0)) - 1) if raw == "auto" else _between(1, MOST_PROCESSES)(raw)


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        if raw not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return raw

    return parse


def _yes(raw: str) -> bool:
    return _one_of("yes", "no")(raw) == "yes"


def _servers(raw: str) -> tuple[str, ...]:
    servers = tuple(part.strip() for part in raw.split(","))
    for server in servers:
        host, _, port = server.rpartition(":")
        if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"{server!r} is not host:port")
    return servers


def _networks(raw: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(part.strip()) for part in raw.split(",") if part.strip())


_PORT = _between(1, 65535)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every option of the service. Sizes in bytes; the names in the environment are in `options()`."""

    data_dir: Path = _option("./var", _path, "path", "where the journal, locks and keys live; a local disk")
    journal: str | None = _option(
        "",
        _optional,
        "URL",
        "postgresql://…, where accepted reports and their cases are kept for all replicas; default: SQLite in the data"
        " directory",
        secret=True,
    )
    host: str = _option("127.0.0.1", _text, "address", "where the API listens")
    port: int = _option("8080", _PORT, "port", "where the API listens")
    metrics_host: str = _option("127.0.0.1", _text, "address", "where the metrics and probe ports listen")
    web_metrics_port: int = _option("9464", _PORT, "port", "/metrics, /livez and /readyz of the web process")
    relay_metrics_port: int = _option("9465", _PORT, "port", "/metrics, /livez and /readyz of the relay")
    sink_metrics_port: int = _option("9466", _PORT, "port", "/metrics, /livez and /readyz of `gridgov sink`")
    web_processes: int = _option(
        "1",
        _processes,
        "processes",
        "that accept reports on one journal, or `auto`: one core less than there are; a sender's limits are shared out"
        " among them",
    )
    threads: int = _option(
        "16", _between(1, 1024), "threads", "of each process: reads answered at the same time; reports need none"
    )
    queue: int = _option(
        "1024", _between(16, 65536), "requests", "in each process waiting for the journal; when full, 503"
    )
    keys_file: Path | None = _option("", _optional_path, "path", "API keys; default <data dir>/keys.json")
    sender_rate: int = _option(
        "500",
        _between(1, 1_000_000),
        "reports/s",
        "of a sender whose key says no other rate; each web process lets in its part; above, 429",
    )
    sender_requests: int = _option(
        "256", _between(1, 1024), "requests", "with a body that one sender may have under way; above, 429"
    )
    auth_failures: int = _option(
        "100", _between(1, 1_000_000), "1/min", "wrong credentials from one address; above, 429"
    )
    trusted_networks: tuple[Network, ...] = _option(
        "127.0.0.0/8,::1/128", _networks, "CIDR,…", "who may ask for metrics and probes at the API's port without a key"
    )
    trusted_proxies: tuple[Network, ...] = _option(
        "", _networks, "CIDR,…", "whose X-Forwarded-For tells where a request comes from; default: nobody's"
    )
    catalogue_dir: Path | None = _option("", _optional_path, "path", "the district's own catalogue; default: built in")
    unknown_minor: str = _option(
        "reject",
        _one_of("reject", "accept_and_flag"),
        "",
        "what to do with a minor class that the catalogue does not know",
    )
    personal_numbers: str = _option(
        "mask",
        _one_of("mask", "keep"),
        "",
        "what to do with mobile numbers, land lines and identity numbers in free text",
    )
    personal_data_file: Path | None = _option(
        "", _optional_path, "path", "TOML: what becomes of personal data, by field and sender; default: strict"
    )
    quarantine_limit: int = _option(
        str(64 << 20), _between(1 << 20, 1 << 40), "bytes", "room for refused reports; the oldest give way"
    )
    quarantine_days: int = _option("30", _between(1, 3650), "days", "how long a refused report is kept at most")
    publish_rejects: bool = _option("yes", _yes, "yes|no", "publish refused reports, masked, to gridgov.rejected")
    journal_limit: int = _option(
        str(1 << 30), _between(1 << 20, 1 << 44), "bytes", "room for the journal; 503 above 90 %, again from 80 %"
    )
    allow_volatile: bool = _option("no", _yes, "yes|no", "let the journal live on tmpfs or overlay (tests, demos)")
    case_grace: int = _option(
        "120", _between(0, 86400), "seconds", "how long after a deadline a late report can still make it met at once"
    )
    repair_clock: str = _option("reported", _one_of("reported", "dispatched"), "", "what starts a repair's clocks")
    incident_clock: str = _option("reported", _one_of("reported", "dispatched"), "", "what starts an incident's clock")
    case_keep_days: int = _option("90", _between(1, 36500), "days", "before a closed case keeps only what decides it")
    dedupe_days: int = _option("7", _between(1, 3650), "days", "how long a settled report_id is recognised again")
    kafka_servers: tuple[str, ...] = _option(
        "127.0.0.1:9092", _servers, "host:port,…", "Kafka's first contacts", env="KAFKA_BOOTSTRAP_SERVERS"
    )
    kafka_protocol: str = _option(
        "PLAINTEXT", _one_of("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"), "", "how to speak to Kafka"
    )
    kafka_ca_file: Path | None = _option("", _optional_path, "path", "CA certificates for SSL")
    kafka_cert_file: Path | None = _option("", _optional_path, "path", "our certificate for mTLS")
    kafka_key_file: Path | None = _option("", _optional_path, "path", "its private key")
    kafka_sasl_mechanism: str = _option(
        "SCRAM-SHA-512", _one_of("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"), "", "for the SASL_ protocols"
    )
    kafka_user: str | None = _option("", _optional, "", "SASL user")
    kafka_password_file: Path | None = _option("", _optional_path, "path", "file whose first line is the SASL password")
    relay_window: int = _option("100", _between(1, 10000), "messages", "handed to Kafka and unanswered, per topic")
    create_topics: bool = _option("no", _yes, "yes|no", "let the relay create missing topics")
    topic_partitions: int = _option(
        "3", _between(1, 1000), "partitions", "of topics that are created, and checked against"
    )
    topic_replication: int = _option("1", _between(1, 9), "replicas", "of topics that are created, and checked against")
    topic_retention_hours: int = _option(
        "168",
        _between(1, 1_000_000),
        "hours",
        "that created topics keep messages; a topic that keeps them less is weak",
    )
    audit_dir: Path | None = _option("", _optional_path, "path", "the audit log; default <data dir>/audit")
    audit_days: int = _option("180", _between(180, 36500), "days", "how long a line of the audit log stays at least")
    sink_database: str | None = _option(
        "", _optional, "URL", "where `gridgov sink` writes: postgresql://… or sqlite:///…", secret=True
    )
    log_level: str = _option("INFO", _one_of("DEBUG", "INFO", "WARNING", "ERROR"), "", "least severity that is logged")

    @property
    def keys(self) -> Path:
        """The file of the API keys."""
        return self.keys_file or self.data_dir / "keys.json"

    @property
    def audit(self) -> Path:
        """The directory of the audit log."""
        return self.audit_dir or self.data_dir / "audit"

    @property
    def loopback(self) -> bool:
        """Whether the API can be reached from this machine only."""
        return is_loopback(self.host)

    def kafka_password(self) -> str | None:
        """The SASL password, read when it is needed and kept nowhere."""
        if self.kafka_password_file is None:
            return None
        return self.kafka_password_file.read_text(encoding="utf-8").partition("\n")[0].strip()


@lru_cache(1024)
def is_loopback(host: str) -> bool:
    """Whether `host` is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def env_name(option: Field[Any]) -> str:
    """The option's name in the environment."""
    return str(option.metadata["env"] or f"GRIDGOV_{option.name.upper()}")


def options() -> tuple[Field[Any], ...]:
    """All options in the order of their declaration."""
    return fields(Config)


def load(env: Mapping[str, str]) -> Config:
    """The configuration that `env` describes. Raises `ConfigError` with all problems at once."""
    config, problems = read(env)
    if problems:
        raise ConfigError(problems)
    return config


def read(env: Mapping[str, str]) -> tuple[Config, list[str]]:
    """The configuration that `env` describes, with the default in the place of each wrong value; all problems."""
    values: dict[str, Any] = {}
    problems = []
    for option in options():
        try:
            values[option.name] = option.metadata["parse"](
                env.get(env_name(option), option.metadata["default"]).strip()
            )
        except ValueError as error:
            problems.append(f"{env_name(option)}={env.get(env_name(option), '')!r}: {error}")
            values[option.name] = option.metadata["parse"](option.metadata["default"])
    known = {env_name(option) for option in options()}
    problems += [
        f"{name}: no such option (see `gridgov config`)"
        for name in sorted(env)
        if name.startswith("GRIDGOV_") and name not in known
    ]
    config = Config(**values)
    problems += _contradictions(config)
    return config, problems


def _contradictions(config: Config) -> list[str]:
    problems = []
    for name in ("catalogue_dir", "kafka_ca_file", "kafka_cert_file", "kafka_key_file"):
        path = getattr(config, name)
        if path is not None and (why := _unusable(path.stat)):
            problems.append(f"GRIDGOV_{name.upper()}={str(path)!r}: {why}")
    if why := _unusable(config.kafka_password):
        problems.append(f"GRIDGOV_KAFKA_PASSWORD_FILE={str(config.kafka_password_file)!r}: {why}")
    if config.kafka_protocol.startswith("SASL") and not (config.kafka_user and config.kafka_password_file):
        problems.append(f"GRIDGOV_KAFKA_PROTOCOL={config.kafka_protocol}: needs GRIDGOV_KAFKA_USER and _PASSWORD_FILE")
    if config.journal and not config.journal.startswith(("postgresql://", "postgres://")):
        problems.append("GRIDGOV_JOURNAL: must begin with postgresql:// (its value is not shown)")
    ports = {config.port, config.web_metrics_port, config.relay_metrics_port}
    if len(ports) < 3:
        problems.append("GRIDGOV_PORT, GRIDGOV_WEB_METRICS_PORT and GRIDGOV_RELAY_METRICS_PORT must differ")
    return problems


def _unusable(ask: Callable[[], object]) -> str | None:
    try:
        return "its first line is empty" if ask() == "" else None
    except OSError as error:
        return error.strerror
    except UnicodeDecodeError:
        return "is not text"
