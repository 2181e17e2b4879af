"""Commands that only look: ps, show, logs, receipt, config.

They read store and files alone, but for `logs --egress` of a run that still goes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from plandock import git, paths, settings
from plandock.claude.redact import redact
from plandock.cli import egress_log, standing
from plandock.cli.common import as_ascii, json_option, print_json, run_argument
from plandock.errors import PlandockError
from plandock.printable import one_line, printable
from plandock.runs.model import Run, State
from plandock.runs.store import Store
from plandock.settings import show as settings_show
from plandock.supervisor import receipt as receipts

_WIDE = 110  # columns from which `ps` shows everything


@click.command()
@click.option("--all", "-a", "every", is_flag=True, help="Ended runs too (the last 20 by default).")
@json_option
def ps(every: bool, as_json: bool) -> None:
    """List runs, newest first."""
    with Store() as store:
        runs = store.list()
    _warn_of_full_disks(runs)
    places = standing.queue_places(runs)
    if as_json:
        print_json([r.to_json() | {"queue_position": places.get(str(r.id))} for r in runs])
        return
    shown = (
        runs
        if every
        else [r for r in runs if not r.state.final] + [r for r in runs if r.state.final][:20]
    )
    if not shown:
        click.echo("no run yet: accept a plan in Claude Code (plandock init wires it)")
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    narrow = console.width < _WIDE
    table = Table(box=box.SIMPLE_HEAD)
    names = ["run", "state", "branch", "commits", "plan", "repo", "created"]
    for name in names[: -1 if narrow else None]:
        # What a run is and how it stands is never cut or folded, however narrow the terminal.
        table.add_column(name, overflow="fold", no_wrap=name in ("run", "state"))
    for r in shown:
        state = standing.words(r, places.get(str(r.id)))
        created = r.created_at[:16].replace("T", " ")
        repo = Path(r.repo).name if narrow else r.repo
        commits = str(r.commits or ("none" if r.state is State.DONE else ""))
        cells = [r.id, state, r.branch, commits, r.plan_title, repo, created]
        texts = [one_line(c) for c in cells[: -1 if narrow else None]]
        if narrow:
            texts[1] = texts[1].replace(" until ", "\nuntil ")
        table.add_row(*map(Text, texts))
    console.print(table)


def _warn_of_full_disks(runs: Iterable[Run]) -> None:
    for line in standing.full_disks(runs):
        click.echo(f"plandock: {line}", err=True)


@click.command()
@run_argument
@json_option
def show(run_name: str, as_json: bool) -> None:
    """Show one run: where it stands, what came back, what is flagged."""
    with Store() as store:
        run = store.find(run_name)
        events = store.events(run.id)
        places = standing.queue_places(store.list(unfinished=True))
    _warn_of_full_disks([run])
    if as_json:
        print_json(run.to_json() | {"queue_position": places.get(str(run.id))})
        return
    click.echo(receipts.as_text(run))
    for event in events[-12:]:
        facts = " ".join(f"{k}={v}" for k, v in event.items() if k not in ("at", "kind") and v)
        click.echo(f"{event['at'][11:19]:>9}  {one_line(event['kind'] + ' ' + facts)}")


@click.command()
@run_argument
@json_option
def receipt(run_name: str, as_json: bool) -> None:
    """What a run did: from which commit, what came back, who paid, what was reached."""
    with Store() as store:
        run = store.find(run_name)
    if as_json:
        print_json(receipts.receipt_of(run))
    else:
        click.echo(receipts.as_text(run))


@click.command()
@run_argument
@click.option("--follow", "-f", is_flag=True, help="Go on until the run has ended.")
@click.option("--supervisor", is_flag=True, help="The supervisor's own log instead.")
@click.option("--egress", is_flag=True, help="What the gateway let through and refused.")
@json_option
def logs(run_name: str, follow: bool, supervisor: bool, egress: bool, as_json: bool) -> None:
    """Show what the agent does and says."""
    with Store() as store:
        run = store.find(run_name)
        if egress:
            egress_log.show(store, run, follow=follow, as_json=as_json)
            return
        name = "supervisor.log" if supervisor else "events.jsonl"
        path = paths.run_dir(run.id) / name
        place, state = 0, ""
        nudge = standing.Nudge()
        while True:
            run = store.get(run.id)
            if follow and not as_json and str(run.state) != state:
                state = str(run.state)
                click.echo(click.style(f"· {state}", dim=True))
            for line in _lines_from(path, place):
                place += len(line)
                if supervisor:
                    click.echo(printable(redact(line.rstrip(b"\n").decode("utf-8", "replace"))))
                elif as_json:
                    _echo_json(line)
                else:
                    _echo_message(line)
            if not follow or run.state.final:
                break
            time.sleep(0.2)
            nudge(store)
    if run.message and not as_json:
        click.echo(printable(run.message), err=True)


def _lines_from(path: Path, place: int) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            file.seek(place)
            return [x for x in file.readlines() if x.endswith(b"\n")]
    except OSError:
        return []


def _echo_json(line: bytes) -> None:
    """One line of the box's output as JSON in plain ASCII; what is no object is passed over."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return
    if isinstance(message, dict):
        click.echo(as_ascii(json.dumps(message)))


def _echo_message(line: bytes) -> None:
    """One line of the box's output, as a person wants to read it."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return  # half a line, or brackets without end: the box may print anything
    if not isinstance(message, dict):
        return
    kind = message.get("type")
    inner = message.get("message")
    content = inner.get("content") if isinstance(inner, dict) else None
    if kind == "assistant" and isinstance(content, list):
        for block in content:
            if isinstance(block, dict) and block.get("type") == "text":
                click.echo(printable(str(block.get("text"))))
            elif isinstance(block, dict) and block.get("type") == "tool_use":
                asked = block.get("input")
                asked = asked if isinstance(asked, dict) else {}
                what = asked.get("command") or asked.get("file_path") or asked.get("pattern") or ""
                click.echo(f"→ {one_line(str(block.get('name')))} {one_line(str(what), limit=160)}")
    elif kind == "plandock":
        facts = message.get("why") or message.get("text") or message.get("output") or ""
        click.echo(f"· {one_line(str(message.get('event')))} {one_line(str(facts), limit=300)}")
    elif kind == "result":
        click.echo(f"= {one_line(str(message.get('subtype')))}")


@click.command()
@json_option
def config(as_json: bool) -> None:
    """Show each setting, its value and where it comes from."""
    try:
        repo: Path | None = git.top_level(Path.cwd())
    except PlandockError:
        repo = None
    loaded = settings.load(repo=repo)
    rows = settings_show.rows(loaded)
    if as_json:
        print_json([r.to_dict() for r in rows])
        return
    for row in rows:
        data: dict[str, Any] = row.to_dict()
        value = json.dumps(data["value"])
        click.echo(printable(f"{data['key']:<14} {value:<32} {data['origin']}"))
    for refused in loaded.refused:
        click.echo(printable(f"ignored: {refused.key} in {refused.where}: {refused.why}"), err=True)


COMMANDS = (ps, show, receipt, logs, config)
