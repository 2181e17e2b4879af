"""The command `unlatch`: a conversation that was handed off may use its tools again."""

from __future__ import annotations

import os

import click

from plandock import paths
from plandock.cli import missed
from plandock.cli.common import json_option, print_json, run_argument
from plandock.runs import marks
from plandock.runs.store import Store


@click.command()
@run_argument
@json_option
def unlatch(run_name: str, as_json: bool) -> None:
    """Let the conversation that handed a run off use its tools here again.

    What you type there does so by itself, where Claude Code keeps its conversations on the disk
    and runs in a terminal.  RUN may be the conversation's own id.
    """
    folder = paths.latch_dir()
    names = os.listdir(folder) if folder.is_dir() else []
    settled = missed.settle(run_name)
    if run_name in names:
        run, latched = "", [run_name]
    elif settled:
        run, latched = "", []
    else:
        with Store() as store:
            found = store.find(run_name)
        run = str(found.id)
        # Copies of the conversation have a latch of their own, of the same run.
        latched = [
            name
            for name in sorted(names)
            if name == found.session_id or (marks.get(folder, name) or {}).get("run") == run
        ]
    for name in latched:
        marks.take_away(folder, name)
    if as_json:
        print_json({"run": run or None, "unlatched": latched})
    elif settled:
        click.echo(f"the plan of {run_name} that was not handed off is seen to")
    elif latched:
        click.echo(f"the conversation of {run_name} may use its tools again")
    else:
        click.echo(f"the conversation of {run_name} is not latched")


COMMANDS = (unlatch,)
