"""`gridgov keys`: who may use the API."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from service.cli.command import configured, fail
from service.config import Config
from service.intake.keys import Keys, KeysError, Role


@click.group()
def keys() -> None:
    """Keys of senders (who post reports) and readers (the sub-centre)."""


@keys.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True)
@configured
def keys_add(config: Config, name: str, role: str) -> None:
    """Make a key for NAME and print it, once. Running processes know it within a second.

    At most two live keys per name: hand out the new one, then revoke the old one.
    """
    with _keys(config) as store:
        secret = store.add(name, Role(role))
    click.echo(secret)
    click.echo("This key is shown once and kept nowhere. Use it as: Authorization: Bearer <key>", err=True)


@keys.command("list")
@configured
def keys_list(config: Config) -> None:
    """List all keys, revoked ones too; never a secret."""
    with _keys(config) as store:
        found = store.all()
    for key in found:
        click.echo(f"{key.id}  {key.role:7} {key.name:24} since {key.created_at}  {_ended(key.revoked_at)}")
    if not found:
        click.echo("no key: requests from this machine are let in as 'local', nobody else", err=True)


@keys.command("revoke")
@click.argument("key_id")
@configured
def keys_revoke(config: Config, key_id: str) -> None:
    """End the key KEY_ID (see `gridgov keys list`) within a second."""
    with _keys(config) as store:
        key = store.revoke(key_id)
    click.echo(f"revoked {key.id} of {key.name}")


def _ended(revoked_at: str | None) -> str:
    return f"revoked {revoked_at}" if revoked_at else "live"


@contextmanager
def _keys(config: Config) -> Iterator[Keys]:
    try:
        yield Keys(config.keys)
    except KeysError as error:
        fail(str(error))
