"""`plandock login --box`: the CLI signs in inside a container, and its login stays there."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import click

from plandock import settings
from plandock.box import keeper
from plandock.claude.login import parse_credentials
from plandock.engines import detect
from plandock.engines.protocol import Engine
from plandock.errors import CredentialsError
from plandock.printable import printable


def sign_in(
    repo: Path | None,
    own: Mapping[str, str],
    build: Callable[[Engine, settings.Settings], str],
) -> None:
    """Sign in on this terminal; ``build`` gives the name of an image with the CLI.

    ``own`` is the user's own environment (:func:`plandock.settings.trusted`).
    """
    upstream, volume = settings.upstream(own), settings.login_volume(own)
    chosen = settings.load(repo=repo)
    engine = detect.choose(chosen.engine)
    image = build(engine, chosen)
    click.echo("Claude Code signs in inside a container; Ctrl-C ends it.", err=True)
    with every_end_is_orderly():
        code = keeper.sign_in(engine, image, upstream, volume)
    data = keeper.read(engine, image, volume)
    where = f"the volume {volume} of {engine.name}"
    login = None if data is None else parse_credentials(data, kind="file", where=where)
    if code or login is None:
        raise CredentialsError("nobody was signed in", hint="plandock login --box")
    plan = f" ({login.subscription})" if login.subscription else ""
    click.echo(printable(f"signed in{plan}; the login is in {where}"))
    if chosen.credentials != "box":
        click.echo('  next: set credentials = "box" in your config.toml')


def forget(repo: Path | None, own: Mapping[str, str]) -> None:
    """Remove the volume."""
    volume = settings.login_volume(own)
    engine = detect.choose(settings.load(repo=repo).engine)
    gone = keeper.forget(engine, volume)
    click.echo(f"the volume {volume} is removed" if gone else "there was no login in a box")


def describe(engine: Engine, image: str, volume: str) -> tuple[bool | None, str]:
    """For `doctor`: whether a run could use it (None: not known), and the words.  May raise."""
    where = f"the volume {volume} of {engine.name}"
    if not keeper.exists(engine, volume):
        return False, f'credentials = "box", and there is no login in {where}'
    if not image:
        return None, f"the login in {where} is not looked at: that needs an image"
    data = keeper.read(engine, image, volume)
    login = None if data is None else parse_credentials(data, kind="file", where=where)
    if login is None:
        return False, f'credentials = "box", and there is no login in {where}'
    left = login.remaining_s(time.time())
    said = f"a login of its own in {where}"
    said += f", {login.subscription}" if login.subscription else ""
    if left is None:
        return True, f"{said}; nothing says when it ends"
    if left < keeper.ENOUGH_LIFE_S:
        return None, f"{said}; it has ended, and the next run lets Claude Code renew it"
    return True, f"{said}; good for {left / 3600:.1f} h more, then Claude Code renews it"


@contextmanager
def every_end_is_orderly() -> Iterator[None]:
    """A closed terminal or a `kill` ends the containers as Ctrl-C does."""

    def end(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = {s: signal.signal(s, end) for s in (signal.SIGHUP, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
