"""The command `unlatch`: a conversation that was handed off may use its tools again."""

from __future__ import annotations

import os

import click

from plandock import paths
from plandock.cli.common import json_option, print_json, run_argument
from plandock.runs import marks
from plandock.runs.store import Store


@click.command()
@run_argument
@json_option
def unlatch(run_name: str, as_json: bool) -> None:
    """Let the conversation that handed a run off use its tools here again.

    What you type there does so by itself, where Claude Code keeps its conversations on the disk.
    """
    with Store() as store:
        run = store.find(run_name)
    folder = paths.latch_dir()
    names = os.listdir(folder) if folder.is_dir() else []
    # Copies of the conversation have a latch of their own, of the same run.
    latched = [n for n in names if (marks.get(folder, n) or {}).get("run") == run.id]
    for name in latched:
        marks.take_away(folder, name)
    if as_json:
        print_json({"run": run.id, "unlatched": sorted(latched)})
    elif latched:
        click.echo(f"the conversation of {run.id} may use its tools again")
    else:
        click.echo(f"the conversation of {run.id} is not latched")


COMMANDS = (unlatch,)
