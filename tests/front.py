"""The nginx of `deploy/nginx` before a gridgov: the shipped file with other ports and paths; and slow clients."""

from __future__ import annotations

import ctypes
import getpass
import os
import resource
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.broker import free_port
from tests.certificates import Authority
from tests.gridgov import PR_SET_PDEATHSIG, listens, until

SHIPPED = Path(__file__).parents[1] / "deploy" / "nginx"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
PER_ADDRESS = 100  # slow clients: fewer than what one address may have under way


@dataclass
class Front:
    """A running nginx; `home` has its configuration, certificates and logs."""

    home: Path
    port: int
    authority: Authority

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def context(self) -> ssl.SSLContext:
        """What a client needs to know it."""
        return ssl.create_default_context(cafile=str(self.authority.certificate))

    def connect(self, source: str = "127.0.0.1") -> ssl.SSLSocket:
        """A connection of its own, from an address of this machine."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=10, source_address=(source, 0))
        return self.context.wrap_socket(plain, server_hostname="127.0.0.1")


@contextmanager
def front(home: Path, upstream: int, *, mtls: bool = False) -> Iterator[Front]:
    """nginx before whatever listens at the port `upstream`, with `mtls.conf` or without."""
    assert NGINX is not None, "no nginx: sh deploy/packages.sh test"
    (home / "nginx").mkdir(parents=True)
    (home / "tls").mkdir()
    made = Front(home, free_port(), Authority(home / "authority", "front"))
    made.authority.issue("server", home / "tls" / "server.pem", home / "tls" / "server.key")
    if mtls:
        shutil.copy(made.authority.certificate, home / "tls" / "platform-ca.pem")
        (home / "nginx" / "mtls.conf").write_text(_moved(SHIPPED / "mtls.conf", {"/etc/gridgov/": f"{home}/"}))
    (home / "nginx.conf").write_text(_moved(SHIPPED / "nginx.conf", _changes(made, upstream)))
    command = [NGINX, "-p", str(home), "-e", str(home / "error.log"), "-c", str(home / "nginx.conf")]
    process = subprocess.Popen([*command, "-g", "daemon off;"], preexec_fn=_end_with_parent)
    try:
        until(lambda: process.poll() is not None or listens(made.port), "nginx listens")
        assert process.poll() is None, (home / "error.log").read_text()
        yield made
    finally:
        process.terminate()
        process.wait(20)


def _changes(made: Front, upstream: int) -> dict[str, str]:
    temporary = "".join(f" {name}_temp_path {made.home}/{name};" for name in TEMPORARY)
    return {
        "user www-data;": f"user {getpass.getuser()};",
        "pid /run/": f"pid {made.home}/",
        "/var/log/nginx/": f"{made.home}/",
        "http {": "http {" + temporary,
        "listen 443 ssl;": f"listen 127.0.0.1:{made.port} ssl;",
        "127.0.0.1:8080": f"127.0.0.1:{upstream}",
        "/etc/gridgov/": f"{made.home}/",
    }


def _moved(shipped: Path, changes: dict[str, str]) -> str:
    text = shipped.read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, f"{shipped.name} has no {old!r} any more"
        text = text.replace(old, new)
    return text


def _end_with_parent() -> None:
    """SIGTERM, not SIGKILL: its workers shall end too."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))


# ---- slow clients ----


def room_for(connections: int) -> None:
    """Let this process and those it starts have so many open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + 1000
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard < 0 else min(hard, wanted), hard))


def halves(key: str) -> tuple[bytes, bytes]:
    """Half a head, and a head with half a body."""
    head = b"POST /v1/reports HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + key.encode() + b"\r\n"
    return head, head + b'Content-Type: application/json\r\nContent-Length: 300\r\n\r\n{"report_id":"'


@contextmanager
def slow_clients(number: int, key: str, port: int, made: Front | None = None) -> Iterator[list[socket.socket]]:
    """So many connections, each with half a request on it: to nginx, or straight to a port."""
    with ExitStack() as held:
        found = []
        for one in range(number):
            source = f"127.0.1.{1 + one // PER_ADDRESS}"
            connection = made.connect(source) if made else _straight(port, source)
            held.enter_context(connection)
            connection.sendall(halves(key)[one % 2])
            found.append(connection)
        yield found


def _straight(port: int, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))
