"""Merging hooks into Claude Code's settings, and taking them out again, byte for byte."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plandock import paths
from plandock.errors import SettingsError
from plandock.hook import settings_file, wiring
from plandock.hook.launcher import HOOKS, Hook, hooks
from plandock.hook.settings_file import init_scope, uninit_scope, wired
from plandock.hook.wiring import complete, merge, unmerge

FOREIGN = {"matcher": "*", "hooks": [{"type": "command", "command": "echo plandock # mine"}]}


def commands(text: str) -> dict[tuple[str, str | None], list[str]]:
    """Every command in the settings, by event and matcher."""
    out: dict[tuple[str, str | None], list[str]] = {}
    for event, groups in json.loads(text.removeprefix("\ufeff"))["hooks"].items():
        for group in groups:
            for hook in group["hooks"]:
                out.setdefault((event, group.get("matcher")), []).append(hook["command"])
    return out


# -- the reversible property -------------------------------------------------------------------

_space = st.sampled_from(["", " ", "\n", "\n  ", "\t", "\r\n", " \n\n    "])
_scalar = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 99), st.text(max_size=6), st.just('hooks{}[],:"')
)
_json = st.recursive(
    _scalar,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
_hook = st.fixed_dictionaries(
    {"type": st.just("command"), "command": st.sampled_from(["true", "echo # plandocker", "x"])},
    optional={"timeout": st.integers(1, 9)},
)
_entry = st.fixed_dictionaries(
    {"hooks": st.lists(_hook, max_size=2)},
    optional={"matcher": st.sampled_from(["*", "ExitPlanMode", "Bash"])},
)
_events = st.dictionaries(
    st.sampled_from(["PreToolUse", "PostToolUse", "SessionStart", "Stop", "Ünïcode"]),
    st.lists(_entry, max_size=2),
)


@st.composite
def _settings(draw: st.DrawFn) -> dict[str, Any]:
    keys = st.text(max_size=5).filter(lambda k: k != "hooks")
    pairs = list(draw(st.dictionaries(keys, _json, max_size=3)).items())
    if draw(st.booleans()):
        pairs.insert(draw(st.integers(0, len(pairs))), ("hooks", draw(_events)))
    return dict(pairs)


@st.composite
def _oddly_written(draw: st.DrawFn, value: Any) -> str:
    """The value as JSON with white space wherever it may stand."""

    def write(value: Any) -> str:
        if isinstance(value, dict) and value:
            parts = [
                draw(_space) + json.dumps(k, ensure_ascii=draw(st.booleans())) + draw(_space)
                + ":" + draw(_space) + write(v) + draw(_space)
                for k, v in value.items()
            ]  # fmt: skip
            return "{" + ",".join(parts) + "}"
        if isinstance(value, list) and value:
            return "[" + ",".join(draw(_space) + write(v) + draw(_space) for v in value) + "]"
        if isinstance(value, (dict, list)):
            return ("{%s}" if isinstance(value, dict) else "[%s]") % draw(_space)
        return json.dumps(value)

    return draw(st.sampled_from(["", "\ufeff"])) + draw(_space) + write(value) + draw(_space)


@st.composite
def _documents(draw: st.DrawFn) -> str:
    value = draw(_settings())
    if draw(st.booleans()):
        return draw(_oddly_written(value))
    indent = draw(st.sampled_from([None, 2, 4, "\t", 1]))
    text = json.dumps(value, indent=indent, ensure_ascii=draw(st.booleans()))
    end = draw(st.sampled_from(["", "\n", "\n\n"]))
    return (text + end).replace("\n", draw(st.sampled_from(["\n", "\r\n"])))


@given(_documents())
def test_taking_out_is_the_exact_inverse_of_putting_in(text: str) -> None:
    """Whatever the document and its format, not a byte is different afterwards."""
    merged = merge(text)
    assert complete(merged)
    assert merge(merged) == merged
    assert unmerge(merged) == text
    assert unmerge(text) == text


@given(_documents())
def test_nothing_else_changes_when_hooks_are_put_in(text: str) -> None:
    """Every other key and hook keeps its value and its place before ours."""
    before = json.loads(text.removeprefix("\ufeff"))
    after = json.loads(merge(text).removeprefix("\ufeff"))
    assert {k: v for k, v in after.items() if k != "hooks"} == {
        k: v for k, v in before.items() if k != "hooks"
    }
    assert [k for k in after if k in before] == list(before)
    for event, groups in before.get("hooks", {}).items():
        assert after["hooks"][event][: len(groups)] == groups


@given(_documents(), st.sampled_from([None, 2, "\t"]))
def test_a_reformatted_file_still_gives_back_the_same_settings(
    text: str, indent: int | str | None
) -> None:
    """Claude Code and formatters rewrite the file; the values that come back are the same."""
    before = json.loads(text.removeprefix("\ufeff"))
    merged = json.dumps(json.loads(merge(text).removeprefix("\ufeff")), indent=indent)
    assert merge(merged) == merged
    assert json.loads(unmerge(merged) or "null") == before


@pytest.mark.parametrize("text", ["", "\n", " \r\n", "\ufeff", "\ufeff\n"])
def test_an_empty_file_comes_back_empty(text: str) -> None:
    """A file that was there without content is there without content again."""
    merged = merge(text)
    assert complete(merged)
    assert merge(merged) == merged
    assert unmerge(merged) == text


def test_a_file_made_by_us_is_given_up_again() -> None:
    """None stands for "no file" in both directions; an empty object is something else."""
    assert unmerge(merge(None)) is None
    assert unmerge(merge("{}\n")) == "{}\n"
    assert merge(None).endswith("}\n")


def test_the_style_around_is_kept() -> None:
    """Tabs, line ends, one-line documents and their spacing are followed."""
    tabs = merge('{\n\t"a": 1\n}\n')
    assert '\n\t"hooks": {\n\t\t"PreToolUse": [' in tabs
    assert "\n " not in tabs
    crlf = merge('{\r\n  "a": 1\r\n}\r\n')
    assert crlf.count("\n") == crlf.count("\r\n") > 10
    assert "\n" not in merge('{"a":1}')
    assert merge('{"a":1}').startswith('{"a":1,"hooks":{"PreToolUse":[{"matcher":"*",')
    assert merge('{"a": 1}').startswith('{"a": 1, "hooks": {"PreToolUse": [{"matcher": "*", ')


# -- other versions and other hands ------------------------------------------------------------


def test_an_older_entry_is_replaced_where_it_stands() -> None:
    """An entry with our marker is brought up to date in place, not added a second time."""
    old = {"type": "command", "command": "old-guard # plandock", "once": True}
    groups = [{"matcher": "*", "hooks": [old]}, FOREIGN]
    merged = merge(json.dumps({"hooks": {"PreToolUse": groups}}, indent=2))
    after = json.loads(merged)["hooks"]["PreToolUse"]
    assert after[0]["hooks"][0]["command"].startswith("case ")
    assert after[0]["hooks"][0]["once"] is True
    assert after[1] == FOREIGN
    assert len(after) == 3
    assert complete(merged)
    assert "old-guard" not in merged


@pytest.mark.parametrize("mark", ["# plandock", "#plandock", "# plandock 3", "# plandock v0.2 "])
def test_obsolete_and_doubled_entries_go(mark: str) -> None:
    """Entries of ours for events that we no longer use, or twice the same, are taken out."""
    ours = {"matcher": "*", "hooks": [{"type": "command", "command": f"x {mark}"}]}
    text = json.dumps({"hooks": {"Notification": [ours], "PreToolUse": [ours, FOREIGN, ours]}})
    merged = merge(text)
    assert complete(merged)
    assert "Notification" not in json.loads(merged)["hooks"]
    assert json.loads(unmerge(merged) or "") == {"hooks": {"PreToolUse": [FOREIGN]}}


def test_entries_taken_out_by_hand_are_put_back() -> None:
    """A half-wired file is incomplete, and init completes it."""
    data = json.loads(merge('{"hooks": {}, "a": 1}'))
    del data["hooks"]["PostToolUse"]
    half = json.dumps(data)
    assert not complete(half)
    whole = merge(half)
    assert complete(whole)
    assert json.loads(unmerge(whole) or "") == {"hooks": {}, "a": 1}


def test_hooks_that_others_added_meanwhile_stay() -> None:
    """Additions beside and inside our entries survive uninit."""
    data = json.loads(merge(None))
    mine = {"type": "command", "command": "mine"}
    data["hooks"]["PreToolUse"][0]["hooks"].append(mine)
    data["hooks"]["PreToolUse"].insert(0, FOREIGN)
    data["hooks"]["SessionStart"].append(FOREIGN)
    data["model"] = "opus"
    assert json.loads(unmerge(json.dumps(data, indent=2)) or "") == {
        "hooks": {
            "PreToolUse": [FOREIGN, {"matcher": "*", "hooks": [mine]}],
            "SessionStart": [FOREIGN],
        },
        "model": "opus",
    }


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ('{\n  // hello\n  "a": 1\n}', "line 2, column 3", "not JSON"),
        ('{\n  "a": 1,\n}', "line 3, column 1", "not JSON"),
        ('{"a": 1', "line 1, column 8", "not JSON"),
        ('{"a": NaN}', "", "not JSON"),
        ('{"a": 1} {}', "line 1, column 10", "behind the end"),
        ("[]", "line 1, column 1", "an object"),
        ('{"hooks": {},\n "hooks": {}}', "line 2, column 2", "second time"),
        ('{"hooks": {},\n "h\\u006foks": {}}', "line 2, column 2", "second time"),
        ('{"hooks": {"Stop": [],\n"Stop": []}}', "line 2, column 1", "second time"),
        ('{"hooks": []}', "line 1, column 11", '"hooks" must be an object'),
        ('{"hooks": null}', "line 1, column 11", '"hooks" must be an object'),
        ('{"hooks": {"PreToolUse": {}}}', "line 1, column 26", "must be an array"),
        ('{"hooks": {"PreToolUse": ["x"]}}', "line 1, column 27", "must be an object"),
        ('{"hooks": {"Stop": [{"hooks": 1}]}}', "line 1, column 31", "must be an array"),
        ('{"a": ' + "[" * 100_000, "", "not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "", "not JSON"),
    ],
)
def test_what_cannot_be_edited_safely_is_refused(text: str, where: str, what: str) -> None:
    """Broken, doubled or misshapen settings are an error with line and column, both ways."""
    for edit in (merge, unmerge):
        with pytest.raises(SettingsError) as caught:
            edit(text)
        assert what in caught.value.message
        assert caught.value.message.startswith(where)


# -- files -------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A Claude Code config folder of its own; not there yet."""
    return tmp_path / "claude"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A real, empty repository."""
    folder = tmp_path / "repo"
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder


@pytest.mark.parametrize(
    ("scope", "where"),
    [
        ("user", "claude/settings.json"),
        ("project", "repo/.claude/settings.json"),
        ("local", "repo/.claude/settings.local.json"),
    ],
)
def test_init_makes_and_uninit_removes_the_file(
    tmp_path: Path, config: Path, repo: Path, scope: settings_file.Scope, where: str
) -> None:
    """Each scope has its file; made by init, it is gone after uninit, and its folder in a repo."""
    change = init_scope(scope, config_dir=config, repo=repo)
    assert (change.path, change.changed, change.created) == (tmp_path / where, True, True)
    assert [(w.scope, w.complete) for w in wired(config, repo)] == [(scope, True)]
    assert not init_scope(scope, config_dir=config, repo=repo).changed
    gone = uninit_scope(scope, config_dir=config, repo=repo)
    assert (gone.changed, gone.deleted, change.path.exists()) == (True, True, False)
    assert not (repo / ".claude").exists()
    assert not uninit_scope(scope, config_dir=config, repo=repo).changed
    assert wired(config, repo) == []


def test_mode_link_and_bytes_survive(tmp_path: Path, config: Path) -> None:
    """A linked settings file is edited behind its link, and keeps its mode."""
    real = tmp_path / "dotfiles.json"
    real.write_bytes(b'\xef\xbb\xbf{\r\n\t"model": "opus"\r\n}')
    real.chmod(0o640)
    config.mkdir()
    (config / "settings.json").symlink_to(real)
    assert init_scope("user", config_dir=config, repo=None).changed
    assert (config / "settings.json").is_symlink()
    assert complete(real.read_bytes().decode(), hooks(paths.state_dir()))
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert uninit_scope("user", config_dir=config, repo=None).changed
    assert real.read_bytes() == b'\xef\xbb\xbf{\r\n\t"model": "opus"\r\n}'
    assert sorted(p.name for p in tmp_path.iterdir()) == ["claude", "dotfiles.json"]


def test_a_repository_cannot_lead_the_edit_elsewhere(tmp_path: Path, repo: Path) -> None:
    """A settings file of a project that links out of it is refused."""
    victim = tmp_path / "victim.json"
    victim.write_text("{}")
    (repo / ".claude").mkdir()
    (repo / ".claude" / "settings.json").symlink_to(victim)
    with pytest.raises(SettingsError, match="leads out of the repository"):
        init_scope("project", config_dir=tmp_path, repo=repo)
    assert victim.read_text() == "{}"


def test_errors_name_the_file_and_write_nothing(config: Path) -> None:
    """Path, line and column stand in the message; the file keeps its bytes."""
    config.mkdir()
    path = config / "settings.json"
    path.write_text('{\n  "a": 1,\n}\n')
    with pytest.raises(SettingsError) as caught:
        init_scope("user", config_dir=config, repo=None)
    assert caught.value.message.startswith(f"{path}, line 3, column 1: ")
    assert path.read_text() == '{\n  "a": 1,\n}\n'
    assert wired(config, None)[0].problem


@pytest.mark.parametrize("kind", ["fifo", "folder", "not UTF-8"])
def test_odd_files_are_refused_at_once(config: Path, kind: str) -> None:
    """What is no text file is neither waited for nor written over."""
    config.mkdir()
    path = config / "settings.json"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(SettingsError, match=r"settings\.json"):
        init_scope("user", config_dir=config, repo=None)


@pytest.fixture
def unprivileged(tmp_path: Path) -> Iterator[None]:
    """Root may write anything; act as nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    for folder in [tmp_path, *tmp_path.parents]:
        # pytest's own folders only; under xdist there is one more of them.
        if folder.name.startswith(("test_", "popen-", "pytest-")):
            folder.chmod(0o755)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_file_is_left_alone(config: Path, unprivileged: None, tmp_path: Path) -> None:
    """A file that the user may not write is refused, even in a writable folder."""
    own = os.geteuid()
    os.seteuid(os.getuid())
    config.mkdir()
    path = config / "settings.json"
    path.write_text("{}")
    path.chmod(0o444)
    config.chmod(0o777)
    os.seteuid(own)
    with pytest.raises(SettingsError, match="cannot be written: it is read-only"):
        init_scope("user", config_dir=config, repo=None)
    assert path.read_text() == "{}"
    assert [p.name for p in config.iterdir()] == ["settings.json"]


def test_a_change_by_somebody_else_is_not_lost(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the file changes between reading and writing, the edit starts over from the new text."""
    config.mkdir()
    path = config / "settings.json"
    path.write_text('{"a": 1}')
    real = wiring.merge
    calls: list[str | None] = []

    def slow(text: str | None, hooks: tuple[Hook, ...]) -> str:
        if not calls:
            path.write_text('{"a": 2}')
        calls.append(text)
        return real(text, hooks)

    monkeypatch.setattr(wiring, "merge", slow)
    init_scope("user", config_dir=config, repo=None)
    assert calls == ['{"a": 1}', '{"a": 2}']
    assert json.loads(path.read_text())["a"] == 2


def test_local_scope_tells_when_git_would_commit_it(config: Path, repo: Path) -> None:
    """The advice goes away once the file is ignored; .gitignore is never touched by us."""
    assert "git does not ignore" in init_scope("local", config_dir=config, repo=repo).note
    assert not (repo / ".gitignore").exists()
    (repo / ".gitignore").write_text("settings.local.json\n")
    assert init_scope("local", config_dir=config, repo=repo).note == ""


def test_project_scopes_need_a_repository(config: Path) -> None:
    """Without a repository there is a clear error."""
    with pytest.raises(SettingsError, match="needs a repository"):
        init_scope("project", config_dir=config, repo=None)


def test_every_wired_command_is_known_again() -> None:
    """Each hook is written once, with a timeout, under its own event and matcher."""
    found = commands(merge(None))
    assert list(found) == [(h.event, h.matcher) for h in HOOKS]
    assert all(len(c) == 1 and c[0].endswith("# plandock") for c in found.values())
    assert all("/root" not in c[0] and "/home" not in c[0] for c in found.values())


def test_an_older_wiring_is_brought_up_to_date_and_known_to_uninit(config: Path) -> None:
    """Its hooks had 60 s, past which a plan goes through; what stood beside them stays."""
    theirs = '{"model": "opus"}\n'
    config.mkdir()
    (config / "settings.json").write_text(theirs)
    init_scope("user", config_dir=config, repo=None)
    new = (config / "settings.json").read_text()
    old = re.sub(r'"timeout": \d+', '"timeout": 60', new)
    assert old != new
    (config / "settings.json").write_text(old)
    assert [w.complete for w in wired(config, None)] == [False]
    assert init_scope("user", config_dir=config, repo=None).changed
    assert (config / "settings.json").read_text() == new
    assert not init_scope("user", config_dir=config, repo=None).changed
    assert [w.complete for w in wired(config, None)] == [True]
    for text in (old, new):
        (config / "settings.json").write_text(text)
        uninit_scope("user", config_dir=config, repo=None)
        assert (config / "settings.json").read_text() == theirs


def test_hooks_have_the_longest_time_that_every_version_keeps_to() -> None:
    """2.1.197 counts milliseconds in 31 bits, and waits not at all for more (measured)."""
    assert {hook.timeout_s for hook in HOOKS} == {(2**31 - 1) // 1000}
