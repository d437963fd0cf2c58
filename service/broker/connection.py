"""How any of our Kafka clients reaches the cluster and enters it, and whether it is the client we know."""

import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from kafka import __version__ as kafka_version
from kafka.net import KafkaNetClient

from service.config import Config

# A connection that has not come about by now is tried anew: TCP's own next try may be 8 s and more away, and this is
# what a report waits for once the network is whole again. The client waits 10 and 30 s; no option says less (3.0.12).
SETUP_MS, SETUP_MAX_MS = 3_000, 6_000
TRY_SECONDS = 1.0
ALERT_SECONDS = 0.5  # with TLS 1.3 a broker tells only after the handshake that it does not take our certificate


def connection(config: Config) -> dict[str, Any]:
    """kafka-python's settings for reaching and entering the cluster, for any of its clients."""
    return {
        "bootstrap_servers": list(config.kafka_servers),
        "security_protocol": config.kafka_protocol,
        "ssl_cafile": config.kafka_ca_file and str(config.kafka_ca_file),
        "ssl_certfile": config.kafka_cert_file and str(config.kafka_cert_file),
        "ssl_keyfile": config.kafka_key_file and str(config.kafka_key_file),
        "sasl_mechanism": config.kafka_sasl_mechanism if config.kafka_protocol.startswith("SASL") else None,
        "sasl_plain_username": config.kafka_user,
        "sasl_plain_password": config.kafka_password(),
        "request_timeout_ms": 10_000,
        "reconnect_backoff_max_ms": 1_000,
        "bootstrap_timeout_ms": 5_000,
        "kafka_client": partial(
            KafkaNetClient,
            socket_connection_setup_timeout_ms=SETUP_MS,
            socket_connection_setup_timeout_max_ms=SETUP_MAX_MS,
        ),
    }


def obstacle(config: Config) -> str | None:
    """What a try of our own meets at one of the first contacts, on the way to a connection that may be used.

    The client says no more than that it could not connect, and keeps to itself that a certificate has run out.
    """
    return next(filter(None, (_met(config, server) for server in config.kafka_servers)), None)


def _met(config: Config, server: str) -> str | None:
    host, _, port = server.rpartition(":")
    host = host.strip("[]")
    try:
        with socket.create_connection((host, int(port)), timeout=TRY_SECONDS) as plain:
            if config.kafka_protocol.endswith("SSL"):
                _shake_hands(config, plain, host)
    except (OSError, ValueError) as error:
        return f"{server}: {error}"
    return None


def _shake_hands(config: Config, plain: socket.socket, host: str) -> None:
    """Raises OSError when either side does not accept the other's certificate."""
    context = ssl.create_default_context(cafile=config.kafka_ca_file)
    if config.kafka_cert_file is not None:
        context.load_cert_chain(config.kafka_cert_file, config.kafka_key_file)
    with context.wrap_socket(plain, server_hostname=host) as secured, suppress(TimeoutError):
        secured.settimeout(ALERT_SECONDS)
        secured.recv(1)


def unfamiliar(client: object, relied_on: Mapping[str, str]) -> list[str]:
    """What a client lacks of all that is relied on (path → what breaks); empty when it is the one we know."""
    return [
        f"kafka-python {kafka_version}: its {type(client).__name__} has no {path}, without which {harm};"
        " install the version that requirements.lock names"
        for path, harm in relied_on.items()
        if not _has(client, path)
    ]


def _has(holder: object, path: str) -> bool:
    for name in path.split("."):
        if not hasattr(holder, name):
            return False
        holder = getattr(holder, name)
    return True
