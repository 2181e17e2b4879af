"""`plandock logs RUN --egress`: what the gateway decided, of an ended run or of one that goes.

One decision a line: in words on a terminal, else as JSON; with ``--json`` all as one document.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from plandock.cli.common import as_ascii, print_json
from plandock.cli.standing import Nudge
from plandock.engines import detect
from plandock.errors import PlandockError
from plandock.printable import one_line
from plandock.runs.model import Run
from plandock.runs.store import Store
from plandock.supervisor import egress

_LOOK_AGAIN_S = 0.3


def show(store: Store, run: Run, *, follow: bool, as_json: bool) -> None:
    """Print the decisions so far, or with ``follow`` each as it is made until the run has ended."""
    shown = 0
    for decision in _followed(store, run) if follow and not run.state.final else ():
        shown += 1
        click.echo(_as_json(decision) if as_json else _line(decision))
    run = store.get(run.id)
    if shown:
        return
    entries = list(egress.kept(run))
    if not run.state.final:
        entries += _live(run)
    entries = entries or run.egress  # of a run that is older than what is kept line by line
    if as_json:
        print_json(entries)
        return
    for entry in entries:
        click.echo(_line(entry))


def _live(run: Run, *, follow: bool = False) -> Iterator[dict[str, Any]]:
    if not run.engine:
        return
    try:
        engine = detect.choose(run.engine)
    except PlandockError:
        return
    yield from egress.decisions(engine, run, follow=follow)


def _followed(store: Store, run: Run) -> Iterator[dict[str, Any]]:
    """Every decision once, also where the gateway is not there yet or its log breaks off."""
    given = 0
    nudge = Nudge()
    while not run.state.final:
        for number, decision in enumerate(_live(run, follow=True)):
            if number >= given:
                given += 1
                yield decision
        time.sleep(_LOOK_AGAIN_S)
        nudge(store)
        run = store.get(run.id)


def _as_json(entry: dict[str, Any]) -> str:
    return as_ascii(json.dumps(entry))


def _line(entry: dict[str, Any]) -> str:
    if not sys.stdout.isatty():
        return _as_json(entry)
    times = f" ×{entry['count']}" if "count" in entry else ""
    why = f"  ({entry['why']})" if entry.get("why") else ""
    stamp = f"{entry['at'][11:19]} " if entry.get("at") else ""
    return one_line(f"{stamp}{entry['decision']} {entry['target']}{times}{why}")
