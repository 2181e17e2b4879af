"""Going on after something broke: the command `recover`, and its cheap part before every other."""

from __future__ import annotations

import sys

import click

from plandock import paths
from plandock.cli.common import json_option, print_json
from plandock.errors import PlandockError
from plandock.printable import printable
from plandock.runs import folder
from plandock.runs.database import Unfit
from plandock.runs.store import Store
from plandock.supervisor import recover as recovery

# These must not depend on a store, or do the same themselves.
_WITHOUT = frozenset({"hook", "completion", "config", "recover", "uninit"})


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@json_option
def recover(dry_run: bool, as_json: bool) -> None:
    """Compare runs, containers, volumes and processes, and go on from what is there."""
    found = _dry_run() if dry_run else _recover()
    if as_json:
        print_json([f.to_json() for f in found])
        return
    for one in found:
        would = "would " if dry_run and not one.action.startswith("left") else ""
        click.echo(printable(f"{one.run or '?'} ({one.state}): {one.found} → {would}{one.action}"))
    if not found:
        click.echo("nothing to recover: every run has ended or is being driven")


def _recover() -> list[recovery.Finding]:
    with Store() as store:
        return recovery.look(store, dry_run=False)


def _dry_run() -> list[recovery.Finding]:
    """What `recover` would do; not even a store is made or mended for the answer."""
    try:
        if paths.store_file().exists():
            with Store(mend=False) as store:
                return recovery.look(store, dry_run=True)
    except Unfit as error:
        why = error.message
    else:
        why = "there is no store of runs"
    known = len(list(folder.records(str(paths.state_dir() / "runs"))))
    if not known and not paths.store_file().exists():
        return []
    action = f"make a new one from the folders of {known} run(s)"
    return [recovery.Finding("", "unfit", why, action)]


def before(command: str | None) -> None:
    """The cheap part of `recover`, at the start of a command; whatever goes wrong, it goes on."""
    if command is None or command in _WITHOUT:
        return
    if not paths.store_file().exists() and not (paths.state_dir() / "runs").is_dir():
        return
    if {"--help", "-h"} & set(sys.argv[1:]):
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
