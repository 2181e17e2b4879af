"""Commands for a run's end, and for what comes after it: stop, resume, drop."""

from __future__ import annotations

from pathlib import Path

import click

from plandock import git, paths
from plandock.box import launch
from plandock.cli import standing
from plandock.cli.common import confirm, json_option, print_json, run_argument
from plandock.engines import detect
from plandock.errors import Busy
from plandock.printable import one_line, printable
from plandock.runs.model import State, utc_now
from plandock.runs.store import Store
from plandock.supervisor import queue, resuming, stopping

# The agent is asked to end, ended if it does not, and its work is harvested (seconds).
_LONGEST_STOP_S = 120.0
_NUDGE_S = 5.0


@click.command()
@run_argument
@click.option("--now", is_flag=True, help="Do not wait for the agent; a second stop does the same.")
@json_option
def stop(run_name: str, now: bool, as_json: bool) -> int:
    """End a run; what its agent has done so far arrives on the branch."""
    with Store() as store:
        found = store.find(run_name)
        if found.state.final:
            if as_json:
                print_json(found.to_json())
            click.echo(f"{found.id} has ended already ({found.state})", err=True)
            return 0
        found = stopping.ask(store, found, forced=now)
        try:
            for _ in range(int(_LONGEST_STOP_S / _NUDGE_S)):
                found = standing.follow(store, found.id, timeout_s=_NUDGE_S, until_stuck=True)
                if found.state.final or found.state is State.WAITING:
                    break
                # Its supervisor may have left or died just when it was asked.
                queue.wake(store)
        except KeyboardInterrupt:
            click.echo(f"the stop of {found.id} goes on: plandock wait {found.id}", err=True)
            return 130
    if as_json:
        print_json(found.to_json())
    elif found.state.final:
        click.echo(standing.ending(found))
    if found.state.final:
        return 0
    why = one_line(found.message) if found.state is State.WAITING else "it takes longer"
    raise Busy(
        f"{found.id} is {standing.words(found)} and ends as soon as it can: {why}",
        hint=f"plandock stop {found.id} --now forces it; plandock wait {found.id}",
    )


@click.command()
@run_argument
@click.option("--say", "words", metavar="TEXT", default="", help="What the agent is told.")
@json_option
def resume(run_name: str, words: str, as_json: bool) -> None:
    """Let a failed, stopped or waiting run go on, in its own conversation and branch."""
    with Store() as store:
        found, told = resuming.resume(store, store.find(run_name), words)
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(one_line(told))


@click.command()
@run_argument
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def drop(run_name: str, yes: bool) -> None:
    """Forget a run: its containers, volumes, folder and hidden refs.  Its branch stays."""
    with Store() as store:
        found = store.find(run_name)
        if not found.state.final:
            raise Busy(f"{found.id} is {found.state}", hint=f"plandock stop {found.id}")
        in_repo = Path(found.repo).is_dir()
        kept = in_repo and found.branch in git.branches(found.repo)
        if found.commits and not kept and not yes:
            confirm(
                printable(f"The branch {found.branch} is gone; drop its last copy?"),
                otherwise=f"{found.id} was not dropped",
                hint=f"plandock drop {found.id} --yes",
            )
        if found.engine:
            engine = detect.choose(found.engine)
            launch.remove_containers(engine, found)
            launch.remove_volumes(engine, found)
        if in_repo:
            spec = f"refs/plandock/runs/{found.id}/"
            refs = git.git(found.repo, "for-each-ref", "--format=%(refname)", spec).text.split("\n")
            for ref in filter(None, refs):
                git.git(found.repo, "update-ref", "-d", ref)
        folder = paths.run_dir(found.id)
        for path in sorted(folder.rglob("*"), reverse=True) if folder.is_dir() else []:
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        if folder.is_dir():
            folder.rmdir()
        store.delete(found.id)
    stays = f"; {one_line(found.branch)} stays" if kept else ""
    click.echo(f"dropped {found.id} at {utc_now()}{stays}")


COMMANDS = (stop, resume, drop)
