"""`gridgov audit`: who did what, and whether the log of it is whole."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from service.audit.trail import AuditError, Place, Trail, What
from service.audit.verify import verify
from service.cli.command import configured, fail, trail_of
from service.config import Config


@click.group()
def audit() -> None:
    """The audit log: refused credentials, keys, requeues, salvages, erasures, replays, views of refused input."""


@audit.command("verify")
@click.option("--since", metavar="SEQ:SHA256", help="A line noted earlier that must still be there, unchanged.")
@configured
def audit_verify(config: Config, since: str | None) -> None:
    """Look whether every line is there, in order and unchanged. Exits with 1 when not.

    Who can write the files can also write them all anew: so keep the last line's number and hash, which this prints,
    somewhere else, and give it next time as --since.
    """
    with _readable(config) as trail:
        found = verify(trail, _place(since))
    for problem in found.problems:
        click.secho(f"- {problem}", fg="red", err=True)
    if found.torn:
        click.echo(
            f"{found.torn} lines were not written whole, as their writer died; nothing else is missing", err=True
        )
    click.echo(f"{found.lines} lines, the last is {found.last.seq}:{found.last.sha256}")
    if found.problems:
        fail("the audit log is not whole")


@audit.command("list")
@click.option("--what", type=click.Choice([one.value for one in What]), help="Only this sort.")
@click.option("--last", type=click.IntRange(1), default=50, show_default=True, help="How many lines.")
@configured
def audit_list(config: Config, what: str | None, last: int) -> None:
    """Show the last lines, JSON as they are."""
    shown: list[str] = []
    with _readable(config) as trail:
        for path in reversed(trail.files()):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            wanted = [line for line in lines if what is None or f'"what":"{what}"' in line]
            shown = wanted[-(last - len(shown)) :] + shown
            if len(shown) >= last:
                break
    for line in shown:
        click.echo(line)


def _place(text: str | None) -> Place | None:
    if text is None:
        return None
    seq, _, sha256 = text.partition(":")
    if not (seq.isascii() and seq.isdigit() and len(sha256) == 64):
        raise click.BadParameter("a noted line is SEQ:SHA256, as `gridgov audit verify` prints it")
    return Place(int(seq), sha256)


@contextmanager
def _readable(config: Config) -> Iterator[Trail]:
    trail = trail_of(config)
    if not trail.directory.exists():
        fail(f"no audit log in {trail.directory} (GRIDGOV_AUDIT_DIR): nothing has happened that it tells of")
    try:
        yield trail
    except (AuditError, OSError) as error:
        fail(f"audit log: {error}")
