"""The steward as it lies in the image: what it does first, and what it never begins."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import plandock

PACKAGE = Path(plandock.__file__).parent

# Answers like the CLI: who pays when it is asked, and, once it has the prompt, its first message.
_CLI = """#!{python}
import json, sys
if sys.argv[1:] == ["auth", "status"]:
    print(json.dumps({{"loggedIn": True, "authMethod": "claude.ai"}}))
    sys.exit()
sys.stdin.readline()
init = {{"apiKeySource": {source!r}, "permissionMode": {mode!r}}}
print(json.dumps({{"type": "system", "subtype": "init", **init}}), flush=True)
print(json.dumps({{"type": "result"}}), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def steward(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """The steward's module, loaded by its path, with this test's folder for home."""
    before = set(sys.modules)
    inside = [str(PACKAGE / part / "inside") for part in ("box", "settings", "workspace")]
    monkeypatch.setattr(sys, "path", [*sys.path, *inside])
    place = PACKAGE / "box" / "inside" / "steward.py"
    spec = importlib.util.spec_from_file_location("steward_by_itself", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HOME", str(tmp_path))
    yield module
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", "") or "").startswith(tuple(inside)):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("source", "mode", "refused"),
    [
        ("none", "bypassPermissions", ""),
        ("ANTHROPIC_API_KEY", "bypassPermissions", "billing"),
        ("none", "default", "mode"),
        ("none", None, "mode"),
    ],
)
def test_the_gate_is_shut_before_the_prompt_and_opens_when_the_payer_is_named(
    steward: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    source: str,
    mode: str | None,
    refused: str,
) -> None:
    """No request can leave before the CLI has said that the login pays and that it asks nobody."""
    cli = tmp_path / "claude"
    cli.write_text(_CLI.format(python=sys.executable, source=source, mode=mode))
    cli.chmod(0o755)
    monkeypatch.setattr(steward, "CLI", str(cli))
    made = steward.Steward()
    made.wish = {"cwd": str(tmp_path), "billing": "subscription"}
    made.prompt = "Proceed."
    at_the_prompt: list[bool] = []
    speak = made.speak

    def heard(text: str) -> None:
        at_the_prompt.append(made.relay.gate.is_set())
        speak(text)

    monkeypatch.setattr(made, "speak", heard)
    assert made.relay.gate.is_set()  # the question who pays goes through
    # A slow machine's reader of complaints may still stand at a pipe that is closed below.
    monkeypatch.setattr(made, "complaints", lambda: None)
    monkeypatch.setattr(steward, "END_S", 600.0)
    _, why = made.converse([str(cli)], {})
    with made.cli:  # closes its pipes, which end with the steward's process otherwise
        pass
    assert at_the_prompt == [False]
    assert (made.relay.gate.is_set(), why) == (not refused, refused)


@pytest.mark.parametrize("ok", [False, True])
def test_a_box_that_is_not_as_ordered_begins_nothing(
    steward: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ok: bool,
) -> None:
    """One check that is false is enough: no login is written, no program started."""
    checks = [{"name": "user", "ok": True}, {"name": "network", "ok": ok, "detail": "eth0"}]
    monkeypatch.setattr(steward.probe, "examine", lambda _: iter(checks))
    made = steward.Steward()
    made.wish = {"cwd": "/r", "isolation": {}, "credentials": {"claudeAiOauth": {}}}

    def keep(_: Any) -> None:
        pytest.fail("the login is written: it begins")

    monkeypatch.setattr(made, "keep_credentials", keep)
    if ok:  # the control
        with pytest.raises(pytest.fail.Exception):
            made.carry_out()
    else:
        assert made.carry_out() == (1, "isolation")
    told = json.loads(capsys.readouterr().out.splitlines()[0])
    assert told["checks"] == checks


# Its conversation had a task: the first result is of that task's end, the answer takes its time.
_SLOW_CLI = """#!{python}
import json, sys, time
if sys.argv[1:] == ["auth", "status"]:
    print(json.dumps({{"loggedIn": True, "authMethod": "claude.ai"}}))
    sys.exit()
sys.stdin.readline()
def tell(**message):
    print(json.dumps(message), flush=True)
def turn(**more):
    tell(type="system", subtype="init", apiKeySource="none", permissionMode="bypassPermissions")
    time.sleep({works_s})
    tell(type="result", subtype="success", **more)
{body}
sys.stdin.read()
"""
_OLD_TASK = 'turn(origin={"kind": "task-notification"})\nturn()'
_NEW_TASK = """
tell(type="system", subtype="init", apiKeySource="none", permissionMode="bypassPermissions")
tell(type="system", subtype="task_started", task_id="a", description="Serve")
tell(type="result", subtype="success")
time.sleep({wait_s})
tell(type="system", subtype="task_notification", task_id="a")
turn(origin={{"kind": "task-notification"}})
"""


def results_of(
    steward: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    body: str,
    *,
    background_s: float,
    end_s: float = 1.0,
) -> tuple[int, list[list[str]]]:
    """One process of such a CLI to its end, by a steward that gives an idle one ``end_s``: how
    many results came, and what was named as left in the background."""
    cli = tmp_path / "claude"
    cli.write_text(_SLOW_CLI.format(python=sys.executable, works_s=3.0, body=body))
    cli.chmod(0o755)
    monkeypatch.setattr(steward, "CLI", str(cli))
    monkeypatch.setattr(steward, "END_S", end_s)
    made = steward.Steward()
    made.wish = {"cwd": str(tmp_path), "billing": "subscription", "background_s": background_s}
    monkeypatch.setattr(made, "complaints", lambda: None)
    made.converse([str(cli)], {})
    with made.cli:
        pass
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    left = [t["tasks"] for t in told if t.get("event") == "background-left"]
    return sum(t.get("type") == "result" for t in told), left


def test_the_end_of_an_old_task_does_not_end_the_agent(
    steward: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A turn that takes longer than an idle CLI has to end is let come to its end."""
    found = results_of(steward, monkeypatch, tmp_path, capsys, _OLD_TASK, background_s=600.0)
    assert found == (2, [])


@pytest.mark.parametrize(
    ("background_s", "wait_s", "end_s", "expected"),
    [(600.0, 3, 600.0, (2, [])), (1.0, 600, 1.0, (1, [["Serve"]]))],
    ids=["ends", "does-not"],
)
def test_the_background_is_waited_for_as_long_as_the_order_says(
    steward: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    background_s: float,
    wait_s: int,
    end_s: float,
    expected: tuple[int, list[list[str]]],
) -> None:
    """Its end is answered by another turn; past its time it is named, and the agent is ended."""
    body = _NEW_TASK.format(wait_s=wait_s)
    given = {"background_s": background_s, "end_s": end_s}
    found = results_of(steward, monkeypatch, tmp_path, capsys, body, **given)
    assert found == expected


def test_the_background_of_an_agent_that_used_up_its_turns_is_not_waited_for(
    steward: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its end would begin a turn with as many turns again."""
    body = _NEW_TASK.format(wait_s=600).replace("success", "error_max_turns")
    found = results_of(steward, monkeypatch, tmp_path, capsys, body, background_s=600.0)
    assert found == (1, [["Serve"]])


# It has work to do when its standard input ends, and a task that does not end.
_LAST_WORK = """
tell(type="system", subtype="init", apiKeySource="none", permissionMode="bypassPermissions")
tell(type="system", subtype="task_started", task_id="a", description="Serve")
tell(type="result", subtype="success")
sys.stdin.read()
time.sleep({last_s})
tell(type="result", subtype="success")
"""


def test_a_cli_has_its_time_to_end_after_the_background_was_given_up(
    steward: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It has been quiet for longer than that already: from the hang-up on it counts anew."""
    body = _LAST_WORK.format(last_s=1)
    given = {"background_s": 11.0, "end_s": 10.0}
    found = results_of(steward, monkeypatch, tmp_path, capsys, body, **given)
    assert found == (2, [["Serve"]])


def test_what_the_user_says_before_the_agent_has_its_prompt_comes_after_it(
    steward: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """While the box is still being set up; later words go to the CLI at once."""
    made = steward.Steward()
    spoken: list[str] = []
    monkeypatch.setattr(made, "speak", spoken.append)
    monkeypatch.setattr(steward, "MOST_EARLY", 2)

    def say(text: str) -> None:
        message = tmp_path / "message"
        message.write_text(json.dumps({"op": "say", "text": text}))
        made.take(str(message))

    for text in ("one", "two", "three"):
        say(text)
    assert spoken == []
    cli = tmp_path / "claude"
    cli.write_text(_CLI.format(python=sys.executable, source="none", mode="bypassPermissions"))
    cli.chmod(0o755)
    monkeypatch.setattr(steward, "CLI", str(cli))
    monkeypatch.setattr(made, "complaints", lambda: None)
    monkeypatch.setattr(made, "follow", lambda: made.hang_up() or "")
    made.wish, made.prompt = {"cwd": str(tmp_path), "billing": "subscription"}, "Proceed."
    made.converse([str(cli)], {})
    with made.cli:
        pass
    say("four")
    assert spoken == ["Proceed.", "one", "two", "four"]


def test_the_cli_reads_no_settings_of_the_repository(
    steward: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nor those that the setup command wrote into its home; what counts of them goes into ours,
    and what is pinned wins.  Without any all is the same: the agent may write one."""
    for name in ("ROOM", "CONFIG"):
        monkeypatch.setattr(steward, name, str(tmp_path / name))
        (tmp_path / name).mkdir()
    cwd = tmp_path / "project"
    (cwd / ".claude").mkdir(parents=True)
    made = steward.Steward()
    made.wish = {"cwd": str(cwd), "settings": {"env": {"PINNED": "", "HTTPS_PROXY": "p"}}}
    proxies = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY")
    env = {"PATH": "/bin", **dict.fromkeys(proxies, "p")}
    assert made.judge_repository(env) == ["--setting-sources", "user"]
    assert capsys.readouterr().out == ""
    variables = {"PINNED": "x", "NO_PROXY": "*", "FOO": "kept"}
    denied = {"deny": ["Read(.env)", "Bash"], "ask": ["Write"]}
    text = json.dumps({"env": variables, "permissions": denied, "model": "opus"})
    (cwd / ".claude" / "settings.json").write_text(text)
    (tmp_path / "CONFIG" / "settings.json").write_text(text)
    assert made.judge_repository(env) == ["--setting-sources", "user"]
    given = json.loads(Path(made.settings(env)).read_text())
    assert given["env"] == {"PINNED": "", "FOO": "kept", **dict.fromkeys(proxies, "p")}
    assert given["permissions"] == {"deny": ["Read(.env)"]}
    assert (given["disableAllHooks"], "model" in given) == (True, False)
    assert not (tmp_path / "CONFIG" / "settings.json").exists()
    assert (cwd / ".claude" / "settings.json").read_text() == text
    told = capsys.readouterr().out
    assert "all of ~/.claude/settings.json" in told
    assert "env.PINNED, env.NO_PROXY, the denial of Bash, permissions.ask, model" in told
