"""Why there is no way to the brokers: nobody there, another's certificate, ours that they do not take."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from service.broker.connection import obstacle
from service.config import Config, load
from tests.broker import free_port
from tests.certificates import Authority


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Authority]:
    home = tmp_path_factory.mktemp("authorities")
    return Authority(home / "ours", "ours"), Authority(home / "other", "other")


@contextmanager
def broker(authority: Authority, home: Path, clients: Authority | None = None) -> Iterator[str]:
    """Somebody who shakes hands, and then says nothing; with `clients` he takes only whom that one knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issued(authority, home, "broker"))
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients.certificate)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError), context.wrap_socket(listening.accept()[0], server_side=True) as met:
                met.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        thread.join(10)


def issued(authority: Authority, home: Path, name: str) -> tuple[Path, Path]:
    certificate, key = home / f"{name}.crt", home / f"{name}.key"
    authority.issue(name, certificate, key)
    return certificate, key


def config(server: str, **more: object) -> Config:
    told = {f"GRIDGOV_KAFKA_{name.upper()}": str(value) for name, value in more.items()}
    return load({"KAFKA_BOOTSTRAP_SERVERS": server, **told})


def test_nobody_there() -> None:
    server = f"127.0.0.1:{free_port()}"
    assert str(obstacle(config(server))).startswith(f"{server}: ")


def test_the_first_that_is_in_the_way_is_told_and_a_way_that_is_free_is_none() -> None:
    nobody = f"127.0.0.1:{free_port()}"
    with socket.create_server(("127.0.0.1", 0)) as there:
        free = f"127.0.0.1:{there.getsockname()[1]}"
        assert obstacle(config(free)) is None
        assert str(obstacle(config(f"{free},{nobody}"))).startswith(f"{nobody}: ")


def test_a_broker_that_shows_what_we_do_not_trust(authorities: tuple[Authority, Authority], tmp_path: Path) -> None:
    ours, other = authorities
    with broker(ours, tmp_path) as server:
        assert "CERTIFICATE_VERIFY_FAILED" in str(obstacle(config(server, protocol="SSL", ca_file=other.certificate)))
    with broker(ours, tmp_path) as server:
        assert obstacle(config(server, protocol="SSL", ca_file=ours.certificate)) is None


def test_a_broker_that_does_not_take_ours(authorities: tuple[Authority, Authority], tmp_path: Path) -> None:
    ours, other = authorities
    certificate, key = issued(other, tmp_path, "client")
    shown = {"protocol": "SSL", "ca_file": ours.certificate, "cert_file": certificate, "key_file": key}
    with broker(ours, tmp_path, clients=ours) as server:
        assert "alert" in str(obstacle(config(server, **shown))).lower()
    with broker(ours, tmp_path, clients=other) as server:
        assert obstacle(config(server, **shown)) is None
