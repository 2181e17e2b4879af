"""`plandock doctor --isolation`: a throw-away box, attacked from inside, one line per check."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import click

from plandock import settings
from plandock.box import doctor
from plandock.claude import binary
from plandock.claude.redact import redact
from plandock.cli.box_login import every_end_is_orderly
from plandock.cli.common import print_json
from plandock.cli.doctor import Finding, exit_code
from plandock.engines import detect
from plandock.engines.protocol import Engine
from plandock.printable import one_line

_MARKS = {True: ("ok", "green"), None: ("not enforced here", "yellow"), False: ("FAILED", "red")}
_REMEDY = "see what the engine's own configuration adds to containers or takes from them"
_NOT_HERE = "runs go on without this limit; use an engine and a host that have it"


def check(
    repo: Path | None, build: Callable[[Engine, str, settings.Settings], str], *, as_json: bool
) -> int:
    """Attack a box and say what came of it; 0, or 22 where a check failed.

    ``build`` gives the image for the version of the CLI on this machine.
    """
    own = settings.trusted(os.environ, repo)
    chosen = settings.load(repo=repo)
    engine = detect.choose(chosen.engine)
    image = build(engine, binary.version_of(binary.find_claude(own)), chosen)
    if sys.stderr.isatty():
        click.echo(f"attacking a throw-away box of {engine.name} from inside …", err=True)
    found: list[Finding] = []
    with every_end_is_orderly():
        with closing(doctor.attack(engine, image, chosen, settings.upstream(own))) as checks:
            for said in checks:
                found.append(_finding(said))
                if not as_json:
                    _show(found[-1])
    if as_json:
        print_json([f.to_json() for f in found])
    return exit_code(found)


def _finding(said: dict[str, object]) -> Finding:
    ok = said.get("ok")
    ok = ok if ok is None or isinstance(ok, bool) else False
    name, detail = (one_line(redact(str(said.get(key, "")))) for key in ("name", "detail"))
    remedy = "" if ok else _NOT_HERE if ok is None else _REMEDY
    return Finding(name, ok, detail, remedy, 22)


def _show(found: Finding) -> None:
    color = False if os.environ.get("NO_COLOR") else None
    word, tint = _MARKS[found.ok]
    click.echo(f"{found.check:<18} {click.style(word, fg=tint)}: {found.detail}", color=color)
    if found.remedy:
        click.echo(f"  {'':<18} {click.style('→ ' + found.remedy, dim=True)}", color=color)
