"""`gridgov keys`: who may use the API, and for what."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from schemas.words import Kind
from service.audit.trail import What
from service.cli.command import audited, configured, fail, note
from service.config import Config
from service.intake import scopes
from service.intake.keys import Digest, Key, Keys, KeysError, Role
from service.intake.scopes import Cases, Scope, ScopeError

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_LASTS = re.compile("([0-9]{1,6})([mhd])")


class Lasting(click.ParamType[timedelta]):
    """A length of time such as 90d, 12h or 30m."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """As a timedelta."""
        if (match := _LASTS.fullmatch(str(value))) is None:
            self.fail("a length of time is such as 90d, 12h or 30m", param, ctx)
        return timedelta(**{_UNITS[match[2]]: int(match[1])})


def scoped(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that spell a scope; those not given are None or empty."""
    for option in (
        click.option("--rate", type=int, help="Reports a second; default: GRIDGOV_SENDER_RATE."),
        click.option("--network", "networks", multiple=True, metavar="CIDR", help="From where alone it may be used."),
        click.option("--category", "categories", multiple=True, metavar="CODE", help="Which it may report: 02, 0211."),
        click.option(
            "--kind",
            "kinds",
            multiple=True,
            type=click.Choice([one.value for one in Kind]),
            help="Which it may report.",
        ),
        click.option(
            "--cases",
            type=click.Choice([one.value for one in Cases]),
            help="Whose cases it speaks of and sees; default: own.",
        ),
    ):
        command = option(command)
    return command


@click.group()
def keys() -> None:
    """Keys of senders (who post reports) and readers (the sub-centre)."""


@keys.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True)
@click.option(
    "--signs",
    "digest",
    type=click.Choice([one.value for one in Digest]),
    help="A key that signs requests and never travels.",
)
@click.option("--expires", "lives", type=Lasting(), help="When it ends by itself, such as 90d; default: never.")
@scoped
@configured
@audited(What.KEY)
def keys_add(config: Config, name: str, role: str, digest: str | None, lives: timedelta | None, **scope: Any) -> None:
    """Make a key for NAME and print it, once. Running processes know it within a second.

    At most two live keys per name: hand out the new one, then revoke the old one (see rotate).
    """
    with _keys(config) as store:
        usual = Scope(cases=Cases.ALL) if role == Role.READER else None
        given = _scope(scope, usual)
        secret = store.add(name, Role(role), given, digest=Digest(digest) if digest else None, lives=lives)
    _show(secret, signs=digest is not None)


@keys.command("list")
@configured
def keys_list(config: Config) -> None:
    """List all keys, ended ones too, with what they are for and when last used; never a secret."""
    with _keys(config) as store:
        found, used = store.all(), store.last_used()
    for key in found:
        seen = f"used {_at(used[key.id])}" if key.id in used else "never used"
        signs = f"signs={key.digest} " if key.digest else ""
        about = f"since {key.created_at}  {seen}  {signs}{key.scope}"
        click.echo(f"{key.id}  {key.role:7} {key.name:24} {about}  {_ended(key)}")
    if not found:
        click.echo("no key: requests from this machine are let in as 'local', nobody else", err=True)


@keys.command("rotate")
@click.argument("key_id")
@click.option("--keep", type=Lasting(), default="7d", show_default=True, help="How long the old one is still good.")
@scoped
@configured
@audited(What.KEY)
def keys_rotate(config: Config, key_id: str, keep: timedelta, **scope: Any) -> None:
    """Make a successor of the key KEY_ID with the same name, role and scope, and print it, once.

    What is said of the scope (--cases, --network, …) takes the place of what the old key had of that sort.
    """
    with _keys(config) as store:
        old = next((key for key in store.all() if key.id == key_id), None)
        secret = store.rotate(key_id, keep, scope=_scope(scope, old.scope if old else None))
    _show(secret, signs=old is not None and old.digest is not None)
    click.echo(f"{key_id} ends by itself in {keep}, or with: gridgov keys revoke {key_id}", err=True)


@keys.command("revoke")
@click.argument("key_id")
@configured
@audited(What.KEY)
def keys_revoke(config: Config, key_id: str) -> None:
    """End the key KEY_ID (see `gridgov keys list`) within a second."""
    with _keys(config) as store:
        key = store.revoke(key_id)
    click.echo(f"revoked {key.id} of {key.name}")


@keys.command("test")
@click.option("--from", "address", metavar="ADDRESS", help="Whether it may be used from there.")
@click.option("--report", nargs=2, metavar="KIND CATEGORY", help="Whether it may report that.")
@configured
def keys_test(config: Config, address: str | None, report: tuple[str, str] | None) -> None:
    """Tell whose key it is that comes on standard input, and what it may do. Exit code 1: it would be refused."""
    given = click.prompt("key", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline().strip()
    with _keys(config) as store:
        key = store.find(given)
    if key is None:
        fail("no such key: neither its id and secret, nor any part of them, say more")
    click.echo(f"{key.id}  {key.role:7} {key.name:24} {key.scope}  {_ended(key)}")
    if not _live(key):
        fail("it has ended")
    if address is not None and not key.scope.admits(address):
        fail(f"it may not be used from {address}")
    if report is not None and (key.role is not Role.SENDER or not key.scope.covers(*report)):
        fail(f"it may not report {' '.join(report)}")


def _show(secret: str, *, signs: bool) -> None:
    note(key=secret.split("_")[1])
    click.echo(secret)
    use = "Sign with what follows gg_<id>_, see `signature` in /docs" if signs else "Authorization: Bearer <key>"
    click.echo(f"This key is shown once. Use it as: {use}", err=True)


def _scope(said: dict[str, Any], before: Scope | None = None) -> Scope:
    """What the options spell, on the ground of what was."""
    given = {name: list(v) if isinstance(v, tuple) else v for name, v in said.items() if v not in (None, ())}
    try:
        return scopes.parse((before.dump() if before else {}) | given)
    except ScopeError as error:
        fail(str(error))


def _ended(key: Key) -> str:
    if key.revoked_at:
        return f"revoked {key.revoked_at}"
    if not _live(key):
        return f"expired {key.expires_at}"
    return f"until {key.expires_at}" if key.expires_at else "live"


def _live(key: Key) -> bool:
    return key.ends > datetime.now(UTC).timestamp()


def _at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%MZ")


@contextmanager
def _keys(config: Config) -> Iterator[Keys]:
    try:
        yield Keys(config.keys, used=config.data_dir / "keys-used.json")
    except KeysError as error:
        fail(str(error))
