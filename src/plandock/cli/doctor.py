"""What `plandock doctor` looks at: each check gives findings, and no check raises."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plandock import git, paths, proc, settings
from plandock.box import image as box_image
from plandock.claude import account, billing, binary, credentials
from plandock.claude.redact import redact
from plandock.cli import box_login, hooks_off, managed
from plandock.engines import detect
from plandock.engines.protocol import Engine
from plandock.errors import CredentialsError, EngineError, PlandockError
from plandock.hook import entry as hook_entry
from plandock.hook import launcher
from plandock.hook.settings_file import Wired, wired, wired_file
from plandock.printable import one_line
from plandock.runs.store import Store
from plandock.settings import Settings, claude_project, project
from plandock.settings.keys import WITH_CREDITS
from plandock.supervisor import logins

# A login with less than this is renewed before a run of any length ends (seconds).
_SHORT_LIFE_S = 1800.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; ``ok`` is None for a warning.

    ``exit_code`` is what `doctor` answers where this is the first that is false.
    """

    check: str
    ok: bool | None
    detail: str
    remedy: str = ""
    exit_code: int = 1

    def to_json(self) -> dict[str, Any]:
        """The four keys of `doctor --json`."""
        return {"check": self.check, "ok": self.ok, "detail": self.detail, "remedy": self.remedy}


@dataclass
class Ground:
    """What the checks look at, and what the earlier ones have found for the later."""

    environ: Mapping[str, str]
    config_dir: Path
    repo: Path | None
    chosen: Settings
    engine: Engine | None = None
    cli: Path | None = None
    cli_version: str = ""
    image: str = ""


def examine(environ: Mapping[str, str], cwd: Path) -> list[Finding]:
    """Look at everything that a hand-off from ``cwd`` needs.  Never raises for what it finds."""
    try:
        repo: Path | None = git.top_level(cwd)
    except PlandockError:
        repo = None
    ground = Ground(settings.trusted(environ, repo), paths.claude_config_dir(), repo, Settings())
    checks: tuple[tuple[str, Callable[[Ground], Iterator[Finding]]], ...] = (
        ("settings", _settings),
        ("engine", _engine),
        ("cli", _cli),
        ("image", _image),
        ("hooks", _hooks),
        ("repository", _repository),
        ("launcher", _launcher),
        ("login", _login),
        ("billing", _billing),
        ("git", _git),
        ("store", _store),
    )
    found: list[Finding] = []
    for name, check in checks:
        try:
            found += check(ground)
        except PlandockError as error:
            kinds = ((EngineError, 20), (CredentialsError, 21))
            code = next((c for kind, c in kinds if isinstance(error, kind)), 1)
            found.append(Finding(name, False, error.message, error.hint, code))
    return [_clean(f) for f in found]


def exit_code(findings: list[Finding]) -> int:
    """0 where nothing is false, else the code of the first that is."""
    return next((f.exit_code for f in findings if f.ok is False), 0)


def _clean(found: Finding) -> Finding:
    """Words of engines and files, fit for a terminal and without secrets."""
    detail, remedy = (one_line(redact(x)) for x in (found.detail, found.remedy))
    return Finding(found.check, found.ok, detail, remedy, found.exit_code)


def _settings(ground: Ground) -> Iterator[Finding]:
    ground.chosen = settings.load(repo=ground.repo)
    changed = sum(1 for origin in ground.chosen.origins.values() if origin != "default")
    yield Finding("settings", True, f"valid; {changed} differ(s) from the defaults")
    for refused in ground.chosen.refused:
        yield Finding(
            "settings", None, f"{refused.key} in {refused.where} is ignored: {refused.why}",
            "put it into your own config.toml if you want it",
        )  # fmt: skip


def _engine(ground: Ground) -> Iterator[Finding]:
    ground.engine = detect.choose(ground.chosen.engine)
    yield Finding("engine", True, f"{ground.engine.name} {ground.engine.ping()} answers")
    ground.engine.check_network("bridge")
    for note in ground.engine.notes():
        yield Finding("engine", None, note, "plandock runs without that limit")


def _cli(ground: Ground) -> Iterator[Finding]:
    program = ground.cli = binary.find_claude(ground.environ)
    ground.cli_version = binary.version_of(program)
    version, (low, high) = ground.cli_version, binary.TESTED
    said = f"Claude Code {version} at {program}"
    if binary.tested(version):
        yield Finding("cli", True, said)
    elif binary.older(version):
        said += f" is older than all that plandock was tested with ({low} to {high})"
        yield Finding("cli", None, said, "claude update")
    else:
        which = "newer than all" if binary.newer(version) else "none of those"
        yield Finding(
            "cli", None, f"{said} is {which} that plandock was tested with ({low} to {high}): its "
            "hooks may differ, and an accepted plan stay on this machine",
            f"try it with: plandock demo; where that fails, report it and: claude install {high}",
        )  # fmt: skip


def _image(ground: Ground) -> Iterator[Finding]:
    if ground.engine is None or not ground.cli_version:
        yield Finding("image", None, "not looked for: it needs the engine and the CLI's version")
        return
    for image in box_image.list_images(ground.engine):
        if image.labels.get(box_image.VERSION_LABEL) == ground.cli_version:
            name = image.tags[0] if image.tags else image.id[:12]
            ground.image = name
            yield Finding("image", True, f"{name} is there, for Claude Code {ground.cli_version}")
            return
    yield Finding(
        "image", None, f"there is none yet for Claude Code {ground.cli_version}",
        "plandock image build (else the first run builds it)",
    )  # fmt: skip


def _hooks(ground: Ground) -> Iterator[Finding]:
    here = Path.cwd()
    named = ground.environ.get("CLAUDE_CONFIG_DIR")
    if named is not None and not named.startswith("/"):
        yield Finding(
            "hooks", None, "CLAUDE_CONFIG_DIR is no absolute path: Claude Code has other user "
            f"settings in each folder that it is started in, here those of {ground.config_dir}",
            "set it to an absolute path",
        )  # fmt: skip
    found = _in_effect(ground, here)
    for place in found:
        if place.problem:
            yield Finding("hooks", False, place.problem, f"mend {place.path}")
        elif not place.complete:
            yield Finding(
                "hooks", False, f"some hooks in {place.path} are missing or old",
                f"plandock init --scope {place.scope}",
            )  # fmt: skip
        else:
            yield Finding("hooks", True, f"wired in {place.path} ({place.scope})")
    ours = [w for w in found if not w.problem]
    if not ours:
        yield _not_read_here(ground, here, {w.path for w in found})
    elif len(ours) > 1:
        scopes = ", ".join(w.scope for w in ours)
        yield Finding(
            "hooks", None, f"wired more than once ({scopes}): every hook is called twice",
            f"plandock uninit --scope {ours[-1].scope}",
        )  # fmt: skip
    yield from (Finding("hooks", x.ok, x.detail, x.remedy) for x in hooks_off.look(_place(ground)))


def _in_effect(ground: Ground, here: Path) -> list[Wired]:
    """Our wirings in what Claude Code reads when it is started here."""
    read = claude_project.files_read(here, config_dir=ground.config_dir, version=ground.cli_version)
    found = [w for file in read for w in wired_file(file.tier, file.path)]
    return [*managed.wired(ground.environ), *found]


def _place(ground: Ground) -> hooks_off.Place:
    """Where Claude Code would be started, for what can turn its hooks off."""
    found = _in_effect(ground, Path.cwd())
    return hooks_off.Place(
        Path.cwd(), ground.config_dir, ground.environ, found, ground.cli, ground.cli_version
    )


def _not_read_here(ground: Ground, here: Path, read: set[Path]) -> Finding:
    """No hook of ours is in effect here; perhaps one is where Claude Code does not look."""
    main = claude_project.main_work_tree(here)
    for folder in dict.fromkeys(x for x in (ground.repo, main) if x is not None):
        for place in wired(ground.config_dir, folder):
            if place.scope != "user" and not place.problem and place.path not in read:
                said = f"Claude Code does not call plandock when it is started in {here}"
                return Finding(
                    "hooks", False, f"{said}: it does not read {place.path} then",
                    f"plandock init (for every folder), or start claude in {folder}",
                )  # fmt: skip
    return Finding("hooks", False, "Claude Code does not call plandock", "plandock init")


def _repository(ground: Ground) -> Iterator[Finding]:
    """What the repository's own files ask for; see docs/security.md for what becomes of it."""
    try:
        git.head_commit(git.top_level(Path.cwd()))
    except PlandockError as error:
        said = f"{error.message}: no plan can be handed off here"
        yield Finding("repository", None, said, error.hint)
    repo = ground.repo
    if repo is None:
        return

    def is_ignored(file: str) -> bool:
        return git.git(repo, "check-ignore", "-q", "--", file, check=False).ok

    for line in project.in_the_box(Path.cwd(), is_ignored):
        yield Finding("repository", True, line)
    found = project.asks(project.folders_of(Path.cwd(), ground.environ))
    for asked in found:
        said = f"{asked.file} asks for {asked.what}"
        if asked.what.startswith("disableAllHooks"):
            judged = hooks_off.judge_switch(_place(ground), said, asked.file)
            yield Finding("repository", judged.ok, judged.detail, judged.remedy)
        elif asked.what.startswith("the variable(s)") and (
            names := hooks_off.reach_shells(asked.file)
        ):
            yield Finding(
                "repository", None, f"{said}; kept out of the box, but on this machine Claude Code "
                f"gives {names} to the shell of its hooks, plandock's included",
                "look at who wrote it, and at what is said of hooks",
            )  # fmt: skip
        elif asked.grave:
            yield Finding(
                "repository", None, f"{said}; not honoured by plandock, here or in the box",
                "look at who wrote it: on this machine Claude Code may honour it",
            )  # fmt: skip
        else:
            yield Finding("repository", True, f"{said}; the box starts none of it by itself")
    if not found:
        yield Finding("repository", True, "its settings ask for nothing that is refused")


def _launcher(ground: Ground) -> Iterator[Finding]:
    file = paths.hook_launcher()
    remedy = "plandock init"
    try:
        lines = file.read_text("utf-8", "surrogateescape").splitlines()
    except FileNotFoundError:
        yield Finding("launcher", False, f"{file} is not there", remedy)
        return
    except OSError as error:
        yield Finding("launcher", False, f"{file} cannot be read: {error.strerror}", remedy)
        return
    named = {}
    for line in lines:
        name, _, value = line.partition("=")
        if name in ("python", "entry") and name not in named:
            try:
                named[name] = "".join(shlex.split(value))
            except ValueError:
                pass
    argv = [named.get("python", ""), "-I", "-S", named.get("entry", "")]
    try:
        # An empty payload: it imports what it needs, and does nothing.
        proc.run([*argv, "prompt"], timeout_s=20.0)
    except (proc.ProcessFailed, ValueError):
        yield Finding("launcher", False, f"what {file} starts does not run", remedy)
        return
    if Path(argv[3]).resolve() != Path(str(hook_entry.__file__)).resolve():
        said = f"{file} starts another installation of plandock"
        yield Finding("launcher", None, said, remedy)
    elif not launcher.is_current("\n".join(lines)):
        said = f"{file} is an older plandock's: a hook that is killed lets an accepted plan through"
        yield Finding("launcher", False, said, remedy)
    else:
        yield Finding("launcher", True, f"{file} runs")


def _login(ground: Ground) -> Iterator[Finding]:
    mode, payer = ground.chosen.credentials, ground.chosen.billing
    if mode == "box" and payer != "api-key":
        if ground.engine is None:
            yield Finding("login", None, "the login in the engine's volume needs the engine")
            return
        ok, said = box_login.describe(
            ground.engine, ground.image, settings.login_volume(ground.environ)
        )
        yield Finding("login", ok, said, logins.SIGN_IN_AGAIN, 21)
        return
    login = credentials.find_login(
        mode=mode,
        billing=payer,
        config_dir=ground.config_dir,
        environ=ground.environ,
        min_life_s=0.0,
    )
    words = {"setup-token": "a setup token", "api-key": "an API key"}
    said = f"{words.get(login.kind, 'the login of Claude Code')} from {login.where}"
    said += f", {login.subscription}" if login.subscription else ""
    if login.kind in ("file", "keychain"):
        whose = account.account_of(login, account.read_owner(ground.config_dir, ground.environ))
        said += f", of {whose.words()}"
    left = login.remaining_s(time.time())
    if left is None:
        yield Finding("login", True, f"{said}; nothing says when it ends")
    elif left < _SHORT_LIFE_S:
        yield Finding(
            "login", None, f"{said}; good for {left / 60:.0f} min more",
            "open `claude` once on this machine: it renews its login by itself",
        )  # fmt: skip
    else:
        yield Finding("login", True, f"{said}; good for {left / 3600:.1f} h more")


# As public threads of June and July 2026 have it; read in November 2026.
_HEADLESS = (
    "runs are headless (`claude -p`); 15 June 2026: a separate monthly credit that Anthropic had "
    "announced for headless use was paused on the day, so the subscription's own limits count"
)


def _billing(ground: Ground) -> Iterator[Finding]:
    if ground.chosen.billing == "api-key":
        where = ground.chosen.origins.get("billing", "your settings")
        yield Finding(
            "billing", None, "billing = \"api-key\": every run is billed per token to your API key",
            f"set billing = \"subscription\" (it was set in: {where})",
        )  # fmt: skip
        return
    yield Finding("headless use", True, _HEADLESS)
    if ground.chosen.billing == WITH_CREDITS:
        limit = ground.chosen.max_credits_usd
        much = "without a limit" if limit is None else f"up to {limit:g} USD each"
        yield Finding(
            "usage credits", None if limit is None else True,
            f"billing = \"{WITH_CREDITS}\": runs may use the subscription's usage credits, {much}",
            "set max_credits_usd",
        )  # fmt: skip
    culprits = billing.find_culprits(
        environ=ground.environ, config_dir=ground.config_dir, repo=ground.repo
    )
    for culprit in culprits:
        # The one that the box's own settings do not outweigh (see billing.neutral_settings).
        stays = culprit.what.startswith("ANTHROPIC_UNIX_SOCKET:") and (
            culprit.where != "the environment" and ground.cli_version == "2.1.197"
        )
        detail = f"{culprit}" if stays else f"{culprit}; kept out of the box"
        yield Finding("billing", False if stays else None, detail, culprit.remedy, 21)
    if not culprits:
        yield Finding("billing", True, "nothing was found that would bill per token")


def _git(ground: Ground) -> Iterator[Finding]:
    name, mail = git.identity(ground.repo or paths.home())
    yield Finding("git", True, f"commits are by {name} <{mail}>")


def _store(_: Ground) -> Iterator[Finding]:
    with Store() as store:
        runs, faults, closed = store.list(), store.faults(), store.cannot_write
    place = paths.store_file()
    if faults:
        remedy = f"move {place} aside; the next command rebuilds it from the runs' folders"
        yield Finding("store", False, f"{place} is damaged: {faults[0]}", remedy)
    elif closed:
        remedy = f"make room, or set right who may write in {place.parent}"
        yield Finding("store", False, f"{place} cannot be written: {closed}", remedy)
    else:
        yield Finding("store", True, f"{place} is sound: {len(runs)} run(s)")
