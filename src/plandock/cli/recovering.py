"""Going on after something broke: the command `recover`, and its cheap part before every other."""

from __future__ import annotations

import sys

import click

from plandock import paths
from plandock.cli.common import json_option, print_json
from plandock.errors import PlandockError
from plandock.printable import printable
from plandock.runs.store import Store
from plandock.supervisor import recover as recovery

# These must not depend on a store, or do the same themselves.
_WITHOUT = frozenset({"hook", "completion", "config", "recover", "uninit"})


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@json_option
def recover(dry_run: bool, as_json: bool) -> None:
    """Compare runs, containers, volumes and processes, and go on from what is there."""
    with Store() as store:
        found = recovery.look(store, dry_run=dry_run)
    if as_json:
        print_json([f.to_json() for f in found])
        return
    for one in found:
        would = "would " if dry_run and not one.action.startswith("left") else ""
        click.echo(printable(f"{one.run or '?'} ({one.state}): {one.found} → {would}{one.action}"))
    if not found:
        click.echo("nothing to recover: every run has ended or is being driven")


def before(command: str | None) -> None:
    """The cheap part of `recover`, at the start of a command; whatever goes wrong, it goes on."""
    if command is None or command in _WITHOUT or not paths.store_file().exists():
        return
    try:
        with Store() as store:
            started = recovery.go_on(store)
    except (PlandockError, OSError):
        return  # the command itself will say what is wrong
    if started and sys.stderr.isatty():
        names = ", ".join(run.id for run in started)
        click.echo(f"plandock: went on with {names}, which nobody was driving", err=True)


COMMANDS = (recover,)
