"""How a user hears of a whole run: each way once for each event, and no text of it is a script."""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plandock.standin import Failure, Script, bash, execution_scene
from tests.crash.crashing import processes_of
from tests.support import accepting, machine, prompts
from tests.support.laptop import ACCESS, PATIENCE_S, Laptop

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e]

TITLE = '"; owned; $(owned) `owned` <b>x</b> --app-name=owned'
PLAN = f"# {TITLE} \x1b]0;owned\x07\n\nDo it.\n"
RECORDER = """\
#!{python}
import json, os, sys
data = sys.stdin.read()
with open({seen!r}, "a") as file:
    file.write(json.dumps([sys.argv[1:], os.environ.get("PLANDOCK_EVENT"), data]) + "\\n")
"""


@pytest.fixture
def cli() -> Path:
    """The newest CLI."""
    return Path(os.environ.get(machine.CLI_VERSIONS["newest"], "/absent"))


def recorder(path: Path) -> Path:
    """A program at `path` that notes how it is called; the file with its notes."""
    seen = path.with_suffix(".jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(RECORDER.format(python=sys.executable, seen=str(seen)))
    path.chmod(0o755)
    return seen


def calls(seen: Path) -> list[Any]:
    """What a recorder has noted: arguments, event and standard input, by call."""
    return [json.loads(line) for line in seen.read_text().splitlines()] if seen.exists() else []


def until(what: Callable[[], object]) -> None:
    """Wait until it is so."""
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end
        time.sleep(0.3)


def test_each_event_is_told_once_by_each_way_and_the_conversation_hears_the_outcome_once(
    make_laptop: Callable[..., Laptop], cli: Path, tmp_path: Path
) -> None:
    """A hostile title; the run waits for a login, gets one, and ends.  Desktop, the user's own
    command, and the next prompt; looking at the run tells nothing again."""
    laptop = make_laptop(cli)
    marker = tmp_path / "marker"
    prompts.put_trap(tmp_path / "tools", marker)
    desktop = recorder(tmp_path / "tools" / "notify-send")
    own = recorder(tmp_path / "own")
    laptop.env["PATH"] = f"{tmp_path / 'tools'}:{laptop.env['PATH']}"
    laptop.env["DISPLAY"] = ":0"
    config = laptop.home / ".config/plandock/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f"notify = {json.dumps([str(tmp_path / 'own'), 'my $(owned)', 'word'])}\n")
    laptop.standin.script = Script(scenes=(execution_scene((bash("echo x > x.txt"),)),))
    laptop.standin.inject(Failure("unauthorized", times=None, if_token=ACCESS))
    laptop.plandock("init", "--scope", "user")

    session = str(uuid.uuid4())
    assert "handed off" in accepting.accept(laptop, PLAN, session=session).stop
    with laptop.store() as store:
        run = store.find("last").id
    assert f"handed off as run {run}" in accepting.prompt(laptop, session).context
    until(lambda: calls(own) and calls(desktop))
    assert accepting.prompt(laptop, session).silent  # it has not ended yet
    laptop.log_in(token=ACCESS.replace("made-up", "renewed"))
    laptop.until_over(run)
    until(lambda: len(calls(own)) > 1 and len(calls(desktop)) > 1)

    told = accepting.prompt(laptop, session).context
    assert told.count("has ended: done") == 1
    assert "1 commit(s) are on the local branch feature/auto" in told
    assert prompts.steering(told) == []
    assert accepting.prompt(laptop, session).silent
    for words in (["ps"], ["recover"], ["wait", run], ["show", run]):
        laptop.plandock(*words)
    # Whatever would tell of it once more has ended.
    assert processes_of(laptop, PATIENCE_S) == []
    assert [event for _, event, _ in calls(own)] == ["login", "done"]
    for argv, event, given in calls(own):
        assert argv == ["my $(owned)", "word"]
        assert json.loads(given)["id"] == run
        assert json.loads(given)["state"] == {"login": "waiting", "done": "done"}[event]
    titles = [f"plandock: {run} waits for a login", f"plandock: {run} is done"]
    assert [argv[:3] for argv, _, _ in calls(desktop)] == [
        ["--app-name=plandock", "--", title] for title in titles
    ]
    for argv, _, _ in calls(desktop):
        assert len(argv) == 4
        # One argument, in markup that shows it as it is.
        assert argv[3].startswith(
            '"; owned; $(owned) `owned` &lt;b&gt;x&lt;/b&gt; --app-name=owned'
        )
        assert prompts.steering(argv[3]) == []
    assert not marker.exists()
