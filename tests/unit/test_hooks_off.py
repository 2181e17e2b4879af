"""What keeps hooks from firing: managed settings as `init` writes them, mods, missed acceptances.

Conversations are what 2.1.197 and 2.1.332 wrote without plandock, in a terminal.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from plandock import paths
from plandock.cli import doctor, hooks_off, managed, setting_up
from plandock.cli import missed as misses
from plandock.errors import PlandockError
from plandock.hook import launcher, missed, mods
from plandock.hook.payload import Event
from plandock.hook.settings_file import Wired
from plandock.runs import marks
from plandock.runs.model import utc_time
from plandock.runs.store import Store
from plandock.settings import Settings
from tests.support.managed import add_mod

DATA = Path(__file__).parent / "data/acceptances"
VERSIONS = ("2.1.197", "2.1.332")
SESSION = "5f6e2a51-6e0c-4cc6-9e5b-0b8c0e7f3f11"


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine's folder of managed settings, in a throwaway place; this user is root there."""
    folder = tmp_path / "etc-claude"
    monkeypatch.setattr(mods, "managed_dir", lambda: folder)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return folder


def user(tmp_path: Path, **changes: object) -> managed.Owner:
    """A user with a home of their own, who is whoever runs the tests."""
    home = tmp_path / "people" / "ann"
    home.mkdir(parents=True, exist_ok=True)
    given = {"uid": os.getuid(), "name": "ann", "home": home, "state": home / "state"} | changes
    return managed.Owner(**given)  # type: ignore[arg-type]


def test_init_writes_a_file_for_all_to_read_and_uninit_leaves_no_trace(etc, tmp_path) -> None:
    """Twice is once, others' files stay, whatever the umask; afterwards all is as it was."""
    (etc / "managed-settings.d").mkdir(parents=True)
    (etc / "managed-settings.d/10-ours.json").write_text('{"model": "opus"}')
    who, old = user(tmp_path), os.umask(0o077)
    try:
        assert managed.init(who).changed
        assert not managed.init(who).changed
    finally:
        os.umask(old)
    assert who.file.stat().st_mode & 0o7777 == 0o644
    assert sorted(x.name for x in who.file.parent.iterdir()) == ["10-ours.json", who.file.name]
    held = json.loads(who.file.read_text())["hooks"]
    assert {hook.event for hook in launcher.HOOKS} == set(held)
    assert managed.uninit(who).deleted
    assert not managed.uninit(who).changed
    assert [x.name for x in who.file.parent.iterdir()] == ["10-ours.json"]


def test_folders_that_only_held_ours_go(etc, tmp_path) -> None:
    """`uninit` takes the folders along that `init` made."""
    managed.init(user(tmp_path))
    managed.uninit(user(tmp_path))
    assert not etc.exists()


def test_a_file_that_others_may_write_is_put_right(etc, tmp_path) -> None:
    """`doctor` would call it incomplete, and `init` writes it anew."""
    who = user(tmp_path)
    managed.init(who)
    who.file.chmod(0o666)
    assert managed.init(who).changed
    assert who.file.stat().st_mode & 0o7777 == 0o644


def test_without_root_one_line_and_the_next_step(tmp_path, monkeypatch) -> None:
    """Nothing is written; where there is no launcher yet the user makes it first."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PlandockError) as caught:
        managed.init(user(tmp_path))
    assert caught.value.exit_code == 1
    assert "needs root" in caught.value.message
    assert caught.value.hint.startswith("plandock init; sudo ")
    assert caught.value.hint.endswith("init --scope managed")


def test_by_sudo_it_is_for_the_one_who_called_it(monkeypatch) -> None:
    """Their home is that of the password database, whatever the environment says."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("XDG_STATE_HOME", "/srv/elsewhere")
    entry = __import__("pwd").getpwnam("nobody")
    who = managed.owner({"SUDO_UID": str(entry.pw_uid), "HOME": "/root"})
    assert (who.uid, who.home) == (entry.pw_uid, Path(entry.pw_dir))
    assert who.state == Path(entry.pw_dir) / ".local/state/plandock"
    assert managed.owner({"SUDO_UID": "0"}).uid == 0
    assert managed.owner({"SUDO_UID": "-1; rm"}).uid == 0


def test_for_another_user_the_launcher_must_be_theirs(etc, tmp_path) -> None:
    """Root never points managed hooks at a launcher that is not the user's own file."""
    who = user(tmp_path, uid=os.getuid() + 4711)
    with pytest.raises(PlandockError, match="not safely the home folder"):
        managed.init(who)
    if os.getuid() == 0:
        os.chown(who.home, who.uid, who.uid)
        with pytest.raises(PlandockError, match="has no launcher"):
            managed.init(who)
        who.state.mkdir()
        who.launcher.symlink_to("/bin/true")
        with pytest.raises(PlandockError, match="has no launcher"):
            managed.init(who)
        who.launcher.unlink()
        who.launcher.touch()
        os.chown(who.launcher, who.uid, who.uid)
        assert managed.init(who).changed
    assert etc.exists() == (os.getuid() == 0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user of this machine may look into; pytest's own are for one."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.getuid() != 0, reason="plays two users")
def test_a_managed_hook_does_nothing_for_anybody_else(open_folder) -> None:
    """Not even for root: the launcher is the user's file, and runs as the user alone."""
    who = user(open_folder, uid=4711)
    who.state.mkdir(parents=True)
    ran = who.home / "ran"
    who.launcher.write_text(f"#!/bin/sh\necho $1 >> {ran}\n")
    for path in (who.home, who.state, who.launcher):
        os.chown(path, who.uid, who.uid)
    (accepted,) = (h for h in managed.hooks_of(who) if h.word == "accepted")
    for uid in (0, 4712, 4711):
        assert not ran.exists()
        subprocess.run(
            ["setpriv", f"--reuid={uid}", "--clear-groups", "sh", "-c", accepted.command],
            capture_output=True, check=True,
        )  # fmt: skip
    assert ran.read_text() == "accepted\n"


def test_mods_are_found_and_judged_by_their_own_files(tmp_path) -> None:
    """In skills of repository and user, by link, in a file of another name; nothing else is one."""
    repo, config = tmp_path / "repo", tmp_path / "config"
    swallows = add_mod(repo / ".claude", "classic.PreToolUse", "ui.render", name="a")
    draws = add_mod(repo / ".claude", "ui.render", name="b")
    mine = add_mod(config, "turn.start", name="c")
    moved = add_mod(tmp_path / "outside", "tool.call", name="d")
    (repo / ".claude/skills/d").symlink_to(moved)
    (moved / "hooks/hooks.json").rename(moved / "other.json")
    (moved / "other.json").write_text('{"modules": ["./hooks/register.ts"]}')
    (moved / ".claude-plugin/plugin.json").write_text('{"name": "d", "hooks": "./other.json"}')
    plain = add_mod(repo / ".claude", name="plain")
    (plain / "hooks/hooks.json").write_text('{"hooks": {}}')
    broken = add_mod(repo / ".claude", "ui.render", name="z")
    (broken / "hooks/hooks.json").write_text("[" * 100_000)
    (repo / ".claude/skills/words").mkdir()
    found = {m.folder.name: m for m in mods.in_reach([repo], config)}
    assert set(found) == {"a", "b", "c", "d", "z"}
    assert {name for name, mod in found.items() if mod.reaches} == {"a", "c", "d", "z"}
    assert [found[x].folder for x in "abc"] == [swallows, draws, mine]
    assert "classic.PreToolUse" in str(found["a"])
    assert found["z"].events is None


def test_an_event_that_is_put_together_at_run_time_counts_as_reaching(tmp_path) -> None:
    """What its text does not show is not known, and not known is no comfort."""
    folder = add_mod(tmp_path / ".claude", name="x")
    (folder / "hooks/register.ts").write_text(
        "export function register(on) { on('cl' + 'assic.PreToolUse', () => ({})) }"
    )
    (mod,) = mods.in_reach([tmp_path], tmp_path / "none")
    assert mod.events is None
    assert mod.reaches


REGISTER = "export function register(on) {\n  on('ui.render', () => ({}));\n%s}\n"
TRICKS = (
    "import {more} from './more'\n" + REGISTER % "  more(on);\n",
    REGISTER % "  on('classic\\u002ePostToolUse', () => ({}));\n",
    REGISTER % "  on('*', () => ({}));\n",
    REGISTER % "  const o = on; o('classic.PostToolUse', () => ({}));\n",
    REGISTER % "  on.call(null, 'classic.PostToolUse', () => ({}));\n",
    "export const register = (f) => f('classic.PostToolUse', () => ({}));\n// on('ui.render')\n",
)


@pytest.mark.parametrize("text", TRICKS)
def test_a_mod_whose_text_does_not_show_all_counts_as_reaching(text, etc, tmp_path) -> None:
    """At a conversation's start as well; what its text does name is added to the validator's."""
    folder = add_mod(tmp_path / ".claude", "ui.render")
    said = mods.at_start(str(tmp_path), tmp_path / "none")
    assert f"{folder} (hooks ui.render)" in said
    assert "can swallow" not in said
    (folder / "hooks/register.ts").write_text(text)
    assert "can swallow" in mods.at_start(str(tmp_path), tmp_path / "none")
    program = tmp_path / "validator"
    module = {"uses": {"events": ["turn.end"]}}
    answer = {"contents": [{"type": "hooks", "modules": [module]}]}
    program.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    program.chmod(0o755)
    (mod,) = mods.in_reach([tmp_path], tmp_path / "none")
    judged = mods.validated(mod, program)
    assert judged.events == ("turn.end", "ui.render")


# As 2.1.332 has it of a module without types: it comes a second time, with a warning.
UNTYPED = {"file": "/x/hooks/register.ts", "type": "hooks", "errors": [], "modules": []}


@pytest.mark.parametrize(
    ("more", "ok"),
    [(UNTYPED, True), (UNTYPED | {"file": "/x/hooks/hooks.json"}, False), (None, True)],
)
def test_a_harmless_mod_is_one_by_the_validator_too(more, ok, etc, tmp_path) -> None:
    """A word about its types leaves its events known; where no word comes, its text tells."""
    folder = add_mod(tmp_path / ".claude", "ui.render")
    module = {"module": "./register.ts", "uses": {"events": ["ui.render"]}}
    answer = {"contents": [{"type": "hooks", "errors": [], "modules": [module]}, more]}
    program = tmp_path / "validator"
    program.write_text(f"#!/bin/sh\necho '{json.dumps(answer if more else {})}'\n")
    program.chmod(0o755)
    if more is not None:
        text = (folder / "hooks/register.ts").read_text()
        (folder / "hooks/register.ts").write_text(text + "// no longer plain: this\n")
    (mod,) = mods.in_reach([tmp_path], tmp_path / "none")
    assert mods.validated(mod, program).reaches != ok


def test_a_module_with_types_alone_is_plain(tmp_path) -> None:
    """What TypeScript takes away again brings no code along."""
    folder = add_mod(tmp_path / ".claude", "ui.render")
    text = "import type { On, Hooks } from 'claude'\n" + REGISTER.replace("(on)", "(on: On)") % ""
    (folder / "hooks/register.ts").write_text(text)
    (mod,) = mods.in_reach([tmp_path], tmp_path / "none")
    assert not mod.reaches


def marketplace(root: Path, *events: str, source: object = "./skills/helper") -> Path:
    """A folder that is a marketplace with one plugin in it."""
    add_mod(root, *events)
    listed = {"name": "m", "plugins": [{"name": "helper", "source": source}]}
    (root / ".claude-plugin").mkdir()
    (root / ".claude-plugin/marketplace.json").write_text(json.dumps(listed))
    return root


def enable(file: Path, source: object = None, *, on: bool = True) -> None:
    """A settings file with the plugin `helper@m` and where its marketplace is."""
    file.parent.mkdir(parents=True, exist_ok=True)
    held = {"extraKnownMarketplaces": {"m": {"source": source}}} if source else {}
    file.write_text(json.dumps({**held, "enabledPlugins": {"helper@m": on}}))


@pytest.mark.parametrize("path", ["./mk", "{root}/mk", "./mk/.claude-plugin/marketplace.json"])
@pytest.mark.parametrize("event", ["classic.PostToolUse", "ui.render"])
def test_a_mod_of_a_marketplace_that_the_repository_brings(path, event, etc, tmp_path) -> None:
    """It loads with no question asked (measured); `doctor`, `init` and the start tell."""
    repo = tmp_path / "repo"
    marketplace(repo / "mk", event)
    kind = "file" if path.endswith("json") else "directory"
    source = {"source": kind, "path": path.format(root=repo)}
    enable(repo / ".claude/settings.json", source)
    reaches = event != "ui.render"
    found = hooks_off.look(place(tmp_path, "user", version="2.1.332"), repository=True)
    assert [x.ok for x in found if "mk/skills/helper" in x.detail] == [not reaches]
    said = mods.at_start(str(repo), tmp_path / "config")
    assert "mk/skills/helper" in said
    assert ("can swallow" in said) == reaches
    enable(repo / ".claude/settings.local.json", on=False)
    assert mods.in_reach([repo], tmp_path / "config") == []


@pytest.mark.parametrize("source", [{"source": "github", "repo": "x/y"}, None])
def test_a_plugin_that_comes_from_elsewhere_is_not_known(source, etc, tmp_path) -> None:
    """Until it is installed, or its marketplace lies here."""
    repo, config = tmp_path / "repo", tmp_path / "config"
    enable(repo / ".claude/settings.json", source)
    (one,) = hooks_off.look(place(tmp_path, "user"), repository=True)
    assert one.ok is False
    assert "helper@m" in one.detail
    assert [x.ok for x in hooks_off.look(place(tmp_path, "managed"))] == [True]
    installed = add_mod(tmp_path / "cache", "ui.render")
    (config / "plugins").mkdir(parents=True)
    entries = {"plugins": {"helper@m": [{"installPath": str(installed)}]}}
    (config / "plugins/installed_plugins.json").write_text(json.dumps(entries))
    assert [x.ok for x in hooks_off.look(place(tmp_path, "user"))] == [True]


def test_a_marketplace_that_claude_code_knows_is_read_where_it_lies(tmp_path) -> None:
    """Hooks that stand in its entry count as the plugin's; no manifest is needed then."""
    repo, config = tmp_path / "repo", tmp_path / "config"
    root = marketplace(tmp_path / "known", "ui.render")
    enable(repo / ".claude/settings.json")
    (config / "plugins").mkdir(parents=True)
    listed = {"m": {"source": {"source": "github"}, "installLocation": str(root)}}
    (config / "plugins/known_marketplaces.json").write_text(json.dumps(listed))
    assert [m.reaches for m in mods.in_reach([repo], config)] == [False]
    entry = {"name": "helper", "source": "./other", "hooks": {"modules": ["./x.ts"]}}
    (root / "other").mkdir()
    (root / ".claude-plugin/marketplace.json").write_text(json.dumps({"plugins": [entry]}))
    assert [m.reaches for m in mods.in_reach([repo], config)] == [True]


def test_the_start_of_a_conversation_names_them_unless_managed(etc, tmp_path) -> None:
    """And says nothing where there is none."""
    assert mods.at_start(str(tmp_path), tmp_path / "none") == ""
    add_mod(tmp_path / ".claude", "prompt.submit", name="x")
    said = mods.at_start(str(tmp_path), tmp_path / "none")
    assert "prompt.submit" in said
    assert "init --scope managed" in said
    file = mods.managed_file(os.getuid())
    file.parent.mkdir(parents=True)
    file.touch()
    assert mods.at_start(str(tmp_path), tmp_path / "none") == ""


def place(tmp_path: Path, *scopes: str, version: str = "2.1.332") -> hooks_off.Place:
    """A folder in which Claude Code is started, wired in these scopes."""
    wired = [Wired(scope, tmp_path / scope, True) for scope in scopes]  # type: ignore[arg-type]
    return hooks_off.Place(tmp_path / "repo", tmp_path / "config", {}, wired, None, version)


MANAGED = ("allowManagedHooksOnly", {"allowManagedHooksOnly": True}), (
    "strictPluginOnlyCustomization", {"strictPluginOnlyCustomization": ["hooks"]},
)  # fmt: skip


@pytest.mark.parametrize(("name", "held"), MANAGED)
def test_a_managed_switch_counts_unless_our_hooks_are_managed(name, held, etc, tmp_path) -> None:
    """In the file itself and in a drop-in; as an error, or as held."""
    (etc / "managed-settings.d").mkdir(parents=True)
    for file in (etc / "managed-settings.json", etc / "managed-settings.d/20-x.json"):
        file.write_text(json.dumps(held))
    for scopes, ok in ((("user",), False), (("user", "managed"), True)):
        found = [x for x in hooks_off.look(place(tmp_path, *scopes)) if name in x.detail]
        assert [x.ok for x in found] == [ok, ok]


def test_variables_of_the_shell_that_claude_is_started_from(etc, tmp_path) -> None:
    """In safe mode managed hooks alone come; the bare one proposes no plan (measured, both)."""

    def looked(*scopes: str, **environ: str) -> list[bool | None]:
        return [x.ok for x in hooks_off.look(replace(place(tmp_path, *scopes), environ=environ))]

    assert looked("user", CLAUDE_CODE_SAFE_MODE="1") == [False]
    assert looked("managed", CLAUDE_CODE_SAFE_MODE="true") == [True]
    assert looked("user", CLAUDE_CODE_SIMPLE="1") == [None]
    assert looked("user", CLAUDE_CODE_SIMPLE="0", CLAUDE_CODE_SAFE_MODE="") == []


def test_a_managed_disable_all_hooks_is_always_an_error(etc, tmp_path) -> None:
    """It turns managed hooks off as well (measured, both versions)."""
    etc.mkdir()
    (etc / "managed-settings.json").write_text('{"disableAllHooks": true}')
    found = list(hooks_off.look(place(tmp_path, "user", "managed")))
    assert [x.ok for x in found] == [False]
    assert hooks_off.BY_HAND in found[0].remedy


FILES = ("config/settings.json", "repo/.claude/settings.json", "repo/.claude/settings.local.json")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("key", ["disableAllHooks", "CLAUDE_CODE_SHELL_PREFIX"])
def test_switches_of_user_and_repository(key, file, etc, tmp_path) -> None:
    """Each is named with its file, as an error without managed hooks and as held with them; the
    prefix of 2.1.197 goes before managed hooks, too (measured)."""
    held = {key: True} if key == "disableAllHooks" else {"env": {key: "/bin/true"}}
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(json.dumps(held))
    (tmp_path / "repo").mkdir(exist_ok=True)

    def looked(*scopes: str, version: str = "2.1.332") -> list[bool | None]:
        found = hooks_off.look(place(tmp_path, *scopes, version=version), repository=True)
        return [x.ok for x in found if key in x.detail and str(tmp_path / file) in x.detail]

    assert looked("user") == [False]
    assert looked("managed") == [True]
    assert looked("managed", version="2.1.197") == [key == "disableAllHooks"]


SHARED, LOCAL = ".claude/settings.json", ".claude/settings.local.json"


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize(
    ("file", "version", "ok"),
    [
        (SHARED, "2.1.197", None),
        (SHARED, "2.1.332", None),
        (SHARED, "", None),
        (LOCAL, "2.1.197", None),  # since 2.1.211 it is read
        (LOCAL, "2.1.332", False),
        (LOCAL, "", False),
    ],
)
def test_a_file_that_is_not_read_from_here_is_a_warning_at_most(
    file, version, ok, linked, etc, repo, tmp_path
) -> None:
    """The top's, from a folder below or a linked work tree: plandock fires, and was said not to."""
    here = tmp_path / "linked" if linked else repo.root / "src"
    if linked:
        repo.git("worktree", "add", "-q", str(here))
    kept = repo.root / file
    kept.parent.mkdir()
    kept.write_text('{"disableAllHooks": true, "env": {"CLAUDE_CODE_SHELL_PREFIX": "/bin/true"}}')
    user = [Wired("user", tmp_path / "user", True)]
    where = hooks_off.Place(here, tmp_path / "config", {}, user, None, version)
    found = list(hooks_off.look(where, repository=True))
    assert [x.ok for x in found] == [ok, ok]
    started = f"where Claude Code is started in {repo.root}: "
    assert [x.detail.startswith(started) for x in found] == 2 * [ok is None]
    assert hooks_off.judge_switch(where, "it asks", kept).ok is ok
    managed_too = [*user, Wired("managed", tmp_path / "managed", True)]
    held = hooks_off.Place(here, tmp_path / "config", {}, managed_too, None, "2.1.332")
    assert [x.ok for x in hooks_off.look(held, repository=True)] == [True, True]


SHELLS = ("LD_PRELOAD", "SHELLOPTS", "BASH_FUNC_f%%", "DYLD_X", "ENV")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", SHELLS)
def test_a_variable_that_ends_the_shell_of_a_hook_is_an_error(name, file, etc, tmp_path) -> None:
    """Whatever its value; 2.1.332 keeps it from managed hooks, 2.1.197 does not (measured)."""
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(json.dumps({"env": {name: "", "FOO": "1"}}))

    def looked(*scopes: str, version: str = "2.1.332") -> list[bool | None]:
        found = hooks_off.look(place(tmp_path, *scopes, version=version), repository=True)
        return [x.ok for x in found if name in x.detail and str(tmp_path / file) in x.detail]

    assert looked("user") == looked("user", version="2.1.197") == [False]
    assert looked("managed") == [True]
    assert looked("managed", version="2.1.197") == [False]


def test_doctor_does_not_call_such_a_variable_not_honoured(
    etc, tmp_path, home, monkeypatch
) -> None:
    """It reaches the shell of hooks here; one that does not is kept out everywhere."""
    file = tmp_path / "repo/.claude/settings.json"
    file.parent.mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "repo")
    ground = doctor.Ground({}, tmp_path / "config", tmp_path / "repo", Settings())
    for name, honoured in (("LD_PRELOAD", True), ("DOCKER_HOST", False)):
        file.write_text(json.dumps({"env": {name: "x"}}))
        (said,) = [
            x.detail for x in doctor._repository(ground) if f"variable(s) {name}" in x.detail
        ]
        assert ("not honoured" in said) != honoured
        assert ("the shell of its hooks" in said) == honoured


@pytest.mark.parametrize(("version", "ok"), [("2.1.197", None), ("2.1.332", False), ("", False)])
def test_a_mod_is_an_error_where_the_version_loads_it(version, ok, etc, tmp_path) -> None:
    """2.1.197 loads none; managed hooks hold."""
    add_mod(tmp_path / "repo/.claude", "classic.PreToolUse")
    assert [x.ok for x in hooks_off.look(place(tmp_path, "user", version=version))] == [ok]
    assert [x.ok for x in hooks_off.look(place(tmp_path, "managed", version=version))] == [True]


def conversation(tmp_path: Path, version: str, case: str, at: float | None = None) -> Path:
    """A recorded conversation where Claude Code keeps those of `repo`, of that time."""
    folder = tmp_path / "config/projects" / paths.project_key(str(tmp_path / "repo"))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{SESSION}.jsonl"
    then = utc_time(time.time() - 60.0 if at is None else at)
    text = (DATA / version / f"{case}.jsonl").read_text()
    file.write_text(re.sub('"timestamp":"[^"]*"', f'"timestamp":"{then}"', text))
    return file


def watched(since: float = 1.0) -> None:
    """Hooks have been wired since then (Unix seconds)."""
    missed.watch_from_now()
    os.utime(paths.seen_dir() / "since", (since, since))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("case", "said"), [("auto", True), ("manual", False), ("cleared", True)])
def test_an_automatic_acceptance_that_no_hook_saw_is_said(
    version, case, said, tmp_path, home
) -> None:
    """Once at the end of a turn, and by `doctor` until it is seen to; one by hand never."""
    file = conversation(tmp_path, version, case)
    watched()
    mode = "default" if case == "manual" else "auto"
    event = Event("Stop", SESSION, mode=mode, cwd=str(tmp_path / "repo"), transcript=str(file))
    assert ("NOT handed off" in missed.at_stop(event)) == said
    assert missed.at_stop(event) == ""
    looked = misses.known(tmp_path / "repo", tmp_path / "config")
    assert [x.session for x in looked] == [SESSION] * said
    assert misses.settle(SESSION) == said
    assert misses.known(tmp_path / "repo", tmp_path / "config") == []


@pytest.mark.parametrize("version", VERSIONS)
def test_doctor_finds_what_no_hook_noted(version, tmp_path, home) -> None:
    """Where even Stop is swallowed, the conversation itself tells."""
    conversation(tmp_path, version, "auto")
    watched()
    (one,) = misses.known(tmp_path / "repo", tmp_path / "config")
    assert one.session == SESSION
    assert one.mode == ("auto" if version == "2.1.197" else "")  # written at the CLI's end


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", ["auto", "cleared"])
def test_what_a_hook_saw_is_no_miss(version, case, tmp_path, home) -> None:
    """Whatever it decided then: handed off, refused, by hand."""
    file = conversation(tmp_path, version, case)
    watched()
    found = missed.find(str(file), SESSION, folder="", mode="auto")
    assert found is not None
    missed.note_seen(found.id)
    assert missed.find(str(file), SESSION, folder="", mode="auto") is None


@pytest.mark.parametrize("version", VERSIONS)
def test_a_copy_of_a_cleared_conversation_that_was_seen_is_no_miss(version, tmp_path, home) -> None:
    """The copy has another session's id, and the same first record."""
    file = conversation(tmp_path, version, "cleared")
    watched()
    assert missed.find(str(file), "another", folder="", mode="auto") is not None
    missed.note_cleared(SESSION, str(file))
    assert missed.find(str(file), "another", folder="", mode="auto") is None


def test_what_was_accepted_before_plandock_is_no_miss(tmp_path, home) -> None:
    """And where nobody knows since when hooks are wired, nothing is said."""
    file = conversation(tmp_path, "2.1.197", "auto")
    assert missed.find(str(file), SESSION, folder="", mode="auto") is None
    watched(time.time() + 1e6)
    assert missed.find(str(file), SESSION, folder="", mode="auto") is None


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", ["auto", "cleared"])
def test_a_long_conversation_is_read_whole(version, case, tmp_path, home) -> None:
    """An acceptance before many megabytes, and after a line that nobody would keep in memory."""
    file = conversation(tmp_path, version, case)
    watched()
    line = json.dumps({"type": "user", "message": {"content": "x" * 1_000_000}}) + "\n"
    endless = '{"toolUseResult":"' + "x" * (9 << 20) + '"}\n'
    file.write_text(endless + file.read_text() + line * 5)
    assert missed.find(str(file), SESSION, folder="", mode="auto") is not None
    missed.note_cleared(SESSION, str(file))
    if case == "cleared":
        assert missed.find(str(file), "another", folder="", mode="auto") is None


def test_what_is_older_than_what_hooks_noted_is_no_miss(tmp_path, home) -> None:
    """A mark of an acceptance goes after 40 days."""
    watched()
    for days, count in ((41, 0), (38, 1)):
        conversation(tmp_path, "2.1.197", "auto", time.time() - days * 86400.0)
        assert len(misses.known(tmp_path / "repo", tmp_path / "config")) == count


def test_one_word_of_the_user_settles_all_misses_of_a_conversation(tmp_path, home) -> None:
    """Those up to now; a later one is said again."""
    file = conversation(tmp_path, "2.1.197", "auto")
    first = file.read_text()
    second = re.sub("toolu_[0-9A-Za-z]+", lambda m: m[0] + "x", first)
    file.write_text(first + second)
    watched()
    assert len(misses.known(tmp_path / "repo", tmp_path / "config")) == 1
    assert misses.settle(SESSION)
    assert misses.known(tmp_path / "repo", tmp_path / "config") == []
    conversation(tmp_path, "2.1.197", "auto", time.time() + 5.0)
    file.write_text(file.read_text().replace("toolu_", "toolu_y"))
    assert len(misses.known(tmp_path / "repo", tmp_path / "config")) == 1


def test_what_was_accepted_while_nothing_was_wired_is_no_miss(tmp_path, home, monkeypatch) -> None:
    """The last `uninit` ends the watch, and the next `init` begins another."""
    repo = tmp_path / "repo"
    repo.mkdir()
    monkeypatch.chdir(repo)
    conversation(tmp_path, "2.1.197", "auto")
    watched()
    assert CliRunner().invoke(setting_up.uninit, ["--json"]).exit_code == 0
    assert misses.known(repo, tmp_path / "config") == []
    missed.watch_from_now()
    assert misses.known(repo, tmp_path / "config") == []


def test_a_plan_from_before_a_repository_was_wired_is_no_miss(tmp_path, home) -> None:
    """Another repository's wiring does not count, the user's own does; each is forgotten with it.

    One of the same repository counts, from whichever folder: Claude Code may not read it there.
    """
    first, repo = tmp_path / "first", tmp_path / "repo"
    for folder in (first, repo):
        (folder / ".git").mkdir(parents=True)
    file = conversation(tmp_path, "2.1.197", "auto")

    def counts() -> bool:
        event = Event("Stop", SESSION, mode="auto", cwd=str(repo), transcript=str(file))
        marks.take_away(paths.missed_dir(), SESSION)
        said = missed.at_stop(event) != ""
        assert said == bool(misses.known(repo, tmp_path / "config"))
        return said

    def wired(folder: Path | str, at: float) -> None:
        before = set(paths.seen_dir().glob("*"))
        missed.watch_from_now(folder)
        (note,) = set(paths.seen_dir().iterdir()) - before
        os.utime(note, (at, at))

    wired(first, 1.0)
    assert not counts()
    wired(repo, time.time())
    assert not counts()
    wired("", 2.0)
    assert counts()
    missed.watch_only([first, repo])
    assert not counts()
    missed.watch_only([first])
    wired(repo / "packages", 2.0)
    assert counts()


def test_a_miss_is_noted_with_the_folder_of_its_conversation(tmp_path, home) -> None:
    """Not with the one that its shell stands in: what hands it off by hand is called there."""
    repo, shell = tmp_path / "repo", tmp_path / "elsewhere"
    (repo / ".git").mkdir(parents=True)
    shell.mkdir()
    file = conversation(tmp_path, "2.1.197", "auto")
    watched()
    event = Event("Stop", SESSION, mode="auto", cwd=str(shell), started=str(repo),
                  transcript=str(file))  # fmt: skip
    assert missed.at_stop(event)
    assert (marks.get(paths.missed_dir(), SESSION) or {})["cwd"] == str(repo)


def test_a_run_of_the_conversation_settles_it(tmp_path, home, monkeypatch) -> None:
    """One from after the acceptance; an older run is another plan's."""
    conversation(tmp_path, "2.1.197", "auto")
    watched()

    class Run:
        created_at = utc_time(0.0)

    monkeypatch.setattr(Store, "latest_of_session", lambda *_: Run)
    assert len(misses.known(tmp_path / "repo", tmp_path / "config")) == 1
    Run.created_at = utc_time(time.time() + 1e7)
    assert misses.known(tmp_path / "repo", tmp_path / "config") == []


def test_hostile_conversations_are_no_miss(tmp_path, home) -> None:
    """Wrong types, a huge nesting, a FIFO: nothing is found, and nothing waits."""
    watched()
    file = tmp_path / "x.jsonl"
    file.write_text(
        '{"type":"user","toolUseResult":{"plan":1,"isAgent":false}}\n'
        '{"type":"user","toolUseResult":{"plan":"x","isAgent":true},"message":7}\n'
        '{"type":"user","planContent":[],"permissionMode":{}}\n' + '{"toolUseResult":' * 9999
    )
    assert missed.find(str(file), SESSION, folder="", mode="auto") is None
    os.mkfifo(tmp_path / "fifo")
    assert missed.find(str(tmp_path / "fifo"), SESSION, folder="", mode="auto") is None
    missed.note_seen("../../x")
    assert {x.name for x in paths.seen_dir().iterdir()} == {"since"}
