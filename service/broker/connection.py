"""How any of our Kafka clients reaches the cluster and enters it, and whether it is the client we know."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from kafka import __version__ as kafka_version
from kafka.net import KafkaNetClient

from service.config import Config

# A connection that has not come about by now is tried anew: TCP's own next try may be 8 s and more away, and this is
# what a report waits for once the network is whole again. The client waits 10 and 30 s; no option says less (3.0.12).
SETUP_MS, SETUP_MAX_MS = 3_000, 6_000


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
