"""Commands that set plandock up: init, uninit, doctor, image, login, demo, completion."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from plandock import git, paths, proc, settings
from plandock.claude import binary, credentials
from plandock.claude.redact import redact
from plandock.cli import hooks_off, managed, wiring_places, wirings
from plandock.cli.common import json_option, print_json
from plandock.engines import detect
from plandock.engines.protocol import Engine, EngineDown
from plandock.errors import CredentialsError, PlandockError, UsageError
from plandock.hook import entry as hook_entry
from plandock.hook import launcher, missed, preflight
from plandock.hook.settings_file import SCOPES, Scope
from plandock.printable import one_line, printable

# Longer than any token, shorter than a file given by mistake (characters).
_LONGEST_TOKEN = 16384

_scope_option = click.option(
    "--scope",
    type=click.Choice((*SCOPES, "managed")),
    default="user",
    show_default=True,
    help="Whose settings file: yours, the project's (committed), yours for this project, or this "
    "machine's (as root; no repository can turn it off).",
)


def _repository() -> Path | None:
    try:
        return git.top_level(Path.cwd())
    except PlandockError:
        return None


@click.command()
@_scope_option
@click.option("--no-image", is_flag=True, help="Leave the box's image to the first run.")
@json_option
def init(scope: Scope, no_image: bool, as_json: bool) -> int:
    """Wire plandock into Claude Code's settings, and build the box's image.

    What else stands in the settings stays as it is, byte for byte; `plandock uninit` reverses it.
    """
    who = managed.owner(os.environ) if scope == "managed" else None
    # By sudo nothing of the user's is touched: launcher and image are those that they have made.
    for_another = who is not None and who.uid != os.geteuid()
    repo, config_dir = None if for_another else _repository(), paths.claude_config_dir()
    folder: Path | None = None
    if who is not None:
        change = managed.init(who)
    else:
        place = wiring_places.place_of(scope, Path.cwd(), os.environ)
        change, folder = wiring_places.init_at(scope, place, config_dir=config_dir), place.folder
    try:
        starts = who.launcher if who is not None and for_another else _write_launcher(folder)
    except OSError as error:
        raise PlandockError(
            f"{paths.hook_launcher()} cannot be written: {error.strerror}",
            hint=f"mend that, then: plandock init --scope {scope}",
        ) from error
    if who is None:
        wirings.remember(config_dir, folder)
    if not as_json:
        done = "wired into" if change.changed else "wired already in"
        click.echo(printable(f"{done} {change.path} ({scope})"))
        if change.note:
            click.echo(printable(f"  note: {change.note}"))
    looks = [] if for_another else _what_reaches_hooks(config_dir, repo)
    harmless = [x.detail for x in looks if x.ok]
    reach = [x for x in looks if not x.ok]
    if not as_json:
        for said in harmless:
            click.echo(printable(f"  note: {said}"))
        for x in reach:
            click.echo(printable(f"  warning: {x.detail}"), err=True)
            click.echo(printable(f"    next: {x.remedy}"), err=True)
    image, code = _image_at_init(repo, no_image or for_another, as_json)
    if as_json:
        print_json(
            {
                "scope": scope,
                "path": str(change.path),
                "changed": change.changed,
                "created": change.created,
                "note": change.note,
                "launcher": str(starts),
                "warnings": [{"detail": x.detail, "remedy": x.remedy} for x in reach],
                "looked_at": harmless,
                "image": image,
            }
        )
    elif not code and all(x.ok is not False for x in reach):
        click.echo("ready: accept a plan in Claude Code with auto-accept edits")
    elif not code:
        click.echo("wired, but see the warnings above before you accept a plan")
    return code


def _what_reaches_hooks(config_dir: Path, repo: Path | None) -> list[hooks_off.Look]:
    """What here could turn off or swallow what has just been wired; the CLI judges its mods."""
    environ = settings.trusted(os.environ, repo)
    wired = managed.wired(os.environ)
    program, version = None, ""
    with contextlib.suppress(PlandockError):
        program = binary.find_claude(environ)
        version = binary.version_of(program)
    place = hooks_off.Place(Path.cwd(), config_dir, environ, wired, program, version)
    return list(hooks_off.look(place, repository=True))


def _write_launcher(folder: Path | None) -> Path:
    missed.watch_from_now(folder or "")
    return launcher.write_launcher(sys.executable, Path(str(hook_entry.__file__)))


def _image_at_init(repo: Path | None, skip: bool, as_json: bool) -> tuple[dict[str, Any], int]:
    """Build the image; the wiring stays whatever comes of it.  Returns facts and an exit code."""
    facts: dict[str, Any] = {"state": "later", "name": None, "detail": "", "remedy": ""}
    if skip:
        return facts | {"state": "skipped"}, 0
    try:
        chosen = settings.load(repo=repo)
        try:
            engine = detect.choose(chosen.engine)
        except EngineDown as error:
            facts |= {"detail": redact(error.message), "remedy": redact(error.hint)}
            if not as_json:
                said = f"no image built: {facts['detail']}; it is built on first need"
                click.echo(printable(said), err=True)
                click.echo(printable(f"  next: {facts['remedy']}"), err=True)
            return facts, 0
        version = binary.version_of(binary.find_claude(settings.trusted(os.environ, repo)))
        name = _build(engine, version, chosen)
    except PlandockError as error:
        facts |= {"state": "failed", "detail": redact(error.message), "remedy": redact(error.hint)}
        if not as_json:
            said = f"plandock: wired, but the image was not built: {facts['detail']}"
            click.echo(one_line(said), err=True)
            click.echo(printable(f"  next: {error.hint or 'plandock image build'}"), err=True)
        return facts, error.exit_code
    if not as_json:
        click.echo(f"image: {name}")
    return facts | {"state": "ready", "name": name}, 0


def _build(engine: Engine, version: str, chosen: settings.Settings) -> str:
    """Make sure of the image, with what happens shown on standard error."""
    from plandock.box import image as box_image

    live = sys.stderr.isatty()
    width = 0

    def show(line: str) -> None:
        nonlocal width
        if live:
            text = one_line(redact(line), limit=100)
            click.echo("\r" + text.ljust(width), nl=False, err=True)
            width = len(text)
        else:
            click.echo(one_line(redact(line)), err=True)

    try:
        return box_image.ensure_image(
            engine,
            cli_version=version,
            base=chosen.image,
            node=chosen.node,
            npm_registry=chosen.npm_registry,
            progress=show,
        )
    finally:
        if width:
            click.echo("\r" + " " * width + "\r", nl=False, err=True)


@click.command()
@_scope_option
@json_option
def uninit(scope: Scope, as_json: bool) -> None:
    """Take plandock out of Claude Code's settings again; what was there before stays."""
    who = managed.owner(os.environ) if scope == "managed" else None
    for_another = who is not None and who.uid != os.geteuid()  # by sudo: nothing else is touched
    repo, config_dir = None if for_another else _repository(), paths.claude_config_dir()
    if who is not None:
        changes = [managed.uninit(who)]
    else:
        changes = wiring_places.uninit_from(scope, Path.cwd(), os.environ, config_dir=config_dir)
    change = changes[0]
    left = managed.wired(os.environ)
    if not for_another:
        left = [*wirings.still_wired(config_dir, repo), *left]
    removed = not (left or for_another) and launcher.remove_launcher()
    if not for_another:
        missed.watch_only("" if w.scope in ("user", "managed") else w.path.parents[1] for w in left)
    if as_json:
        print_json(
            {
                "scope": scope,
                "path": str(change.path),
                "changed": change.changed,
                "deleted": change.deleted,
                "launcher_removed": removed,
                "still_wired": [str(w.path) for w in left],
            }
        )
        return
    done = "taken out of" if change.changed else "was not in"
    for change in changes:
        click.echo(printable(f"{done} {change.path} ({scope})"))
    for place in left:
        click.echo(printable(f"  still wired: {place.path} ({place.scope})"))


@click.command()
@click.option("--isolation", is_flag=True, help="Attack a throw-away box from inside instead.")
@json_option
def doctor(isolation: bool, as_json: bool) -> int:
    """Check everything that a hand-off needs, and say what to do about what is missing."""
    from plandock.cli import doctor as checks

    if isolation:
        from plandock.cli import isolation as attacks

        return attacks.check(_repository(), _build, as_json=as_json)
    found = checks.examine(os.environ, Path.cwd())
    if as_json:
        print_json([f.to_json() for f in found])
        return checks.exit_code(found)
    color = False if os.environ.get("NO_COLOR") else None
    marks = {True: ("✓", "green"), None: ("!", "yellow"), False: ("✗", "red")}
    for f in found:
        mark, tint = marks[f.ok]
        click.echo(f"{click.style(mark, fg=tint)} {f.check:<9} {f.detail}", color=color)
        if f.remedy and f.ok is not True:
            click.echo(f"  {'':<9} {click.style('→ ' + f.remedy, dim=True)}", color=color)
    return checks.exit_code(found)


@click.group()
def image() -> None:
    """The image that boxes are made of: built here, for the Claude Code that you run."""


@image.command(name="build")
@click.option("--base", metavar="IMAGE", help="The image to build on (default: your settings).")
@click.option("--cli", "version", metavar="VERSION", help="The version of Claude Code to put in.")
def image_build(base: str | None, version: str | None) -> None:
    """Build the image now, unless it is there."""
    repo = _repository()
    chosen = settings.load(repo=repo, flags={"image": base})
    engine = detect.choose(chosen.engine)
    if version is None:
        version = binary.version_of(binary.find_claude(settings.trusted(os.environ, repo)))
    click.echo(_build(engine, version, chosen))


@image.command(name="ls")
@json_option
def image_ls(as_json: bool) -> None:
    """List the images that plandock has built."""
    from plandock.box import image as box_image

    engine = detect.choose(settings.load(repo=_repository()).engine)
    rows: list[dict[str, Any]] = [
        {
            "id": found.id,
            "tags": list(found.tags),
            "cli_version": found.labels.get(box_image.VERSION_LABEL, ""),
            "size_bytes": found.size_bytes,
            "created_at": found.created_at.isoformat() if found.created_at else None,
            "engine": engine.name,
        }
        for found in box_image.list_images(engine)
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        name = " ".join(row["tags"]) or row["id"][:12]
        click.echo(printable(f"{name}  Claude Code {row['cli_version']}"))
    if not rows:
        click.echo("no image yet: plandock image build")


@click.command()
@click.option("--token", "given", is_flag=True, help="Store a token of `claude setup-token`.")
@click.option("--box", is_flag=True, help="Sign in inside a container, and keep the login there.")
@click.option("--forget", is_flag=True, help="Remove the stored token, or with --box that login.")
def login(given: bool, box: bool, forget: bool) -> None:
    """Give runs a login of their own: Anthropic's flow, through your own Claude Code.

    The token is read from standard input or a hidden prompt, never from the command line.
    With --box there is no token to copy: runs with credentials = "box" use that login.
    """
    if given and (forget or box):
        raise UsageError(f"give either --token or {'--box' if box else '--forget'}")
    if box:
        _login_in_a_box(forget)
        return
    if forget:
        gone = credentials.forget_setup_token()
        click.echo("the stored token is removed" if gone else "no token was stored")
        return
    typed = sys.stdin.isatty()
    if not given:
        if not typed:
            raise UsageError(
                "signing in needs a terminal", hint="or: plandock login --token < FILE"
            )
        _sign_in()
    if typed:
        text = str(click.prompt("Paste the token (it does not show)", hide_input=True, err=True))
    else:
        text = sys.stdin.buffer.read(_LONGEST_TOKEN).decode("utf-8", "replace")
    file = credentials.store_setup_token(text)
    click.echo(printable(f"stored in {file}; runs use it from now on"))


def _login_in_a_box(forget: bool) -> None:
    from plandock.cli import box_login

    repo = _repository()
    own = settings.trusted(os.environ, repo)
    if forget:
        box_login.forget(repo, own)
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("signing in needs a terminal", hint="or: plandock login --token < FILE")
    version = binary.version_of(binary.find_claude(own))
    box_login.sign_in(repo, own, lambda engine, chosen: _build(engine, version, chosen))


def _sign_in() -> None:
    """Run the CLI's own `setup-token` on this terminal."""
    repo = _repository()
    program = binary.find_claude(settings.trusted(os.environ, repo))
    dropped = set(preflight.kept_out(os.environ))
    env = {name: value for name, value in os.environ.items() if name not in dropped}
    if proc.attached([str(program), "setup-token"], env=env):
        raise CredentialsError(
            "`claude setup-token` did not end well", hint="run it by hand, then: "
            "plandock login --token",
        )  # fmt: skip


@click.command()
@click.option("--live", is_flag=True, help="With your own login and model, not the stand-in.")
def demo(live: bool) -> int:
    """Show the whole way of a plan, from acceptance to branch, in a throwaway repository."""
    from plandock.demo import story

    return story.tell(live=live)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that completes plandock's commands and runs in your shell."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    root = context.find_root().command
    click.echo(kind(root, {}, "plandock", "_PLANDOCK_COMPLETE").source())


COMMANDS = (init, uninit, doctor, image, login, demo, completion)
