"""The steward with the real CLI, without a container: its own words, arguments and settings.

Started as a program by :func:`carry_out`: what it patches are the places that only a box has.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "plandock"
TOKEN = "sk-ant-oat01-" + "made-up-access-token-" * 3


@dataclass(frozen=True)
class Outcome:
    """What a run of the steward's said, and how its repository stands."""

    messages: list[dict[str, Any]]
    commits: list[str]

    @property
    def init(self) -> dict[str, Any]:
        """The CLI's first message; empty where there was none."""
        return next((m for m in self.messages if m.get("subtype") == "init"), {})

    @property
    def said(self) -> str:
        """What the steward told of the repository's settings."""
        told = [m["lines"] for m in self.messages if m.get("event") == "repository-settings"]
        return "\n".join(line for lines in told for line in lines)

    @property
    def why(self) -> str:
        """Why the steward ended it, if it did."""
        return str([m["why"] for m in self.messages if m.get("event") == "agent-ended"][-1])

    @property
    def results(self) -> list[str]:
        """What the agent's tool calls came to."""
        found = []
        for message in self.messages:
            content = message["message"]["content"] if message.get("type") == "user" else []
            for block in content if isinstance(content, list) else []:
                if block.get("type") == "tool_result":
                    found.append(json.dumps(block.get("content")))
        return found


def carry_out(cli: Path, folder: Path, repo: Path, url: str, model: str, old: bool) -> Outcome:
    """Let the steward carry a plan out at ``repo``, in a home below ``folder``; ``old``: with the
    repository's settings read by the CLI itself, as a control."""
    words = [str(cli), str(folder), str(repo), url, model, str(int(old))]
    program = "from tests.support.steward_here import main; main()"
    home = folder / "home"
    home.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=PACKAGE.parents[1],
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home),
            "PYTHONPATH": f"{PACKAGE.parent}:{PACKAGE.parents[1]}",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    messages = [json.loads(x) for x in done.stdout.splitlines() if x.startswith("{")]
    assert any(m.get("event") == "agent-ended" for m in messages), done.stderr
    log = ["git", "-C", str(repo), "log", "--format=%s"]
    told = subprocess.run(log, capture_output=True, text=True, check=True)
    return Outcome(messages, told.stdout.splitlines())


def main() -> None:
    """One run; what the steward says goes to standard output, as in a box."""
    cli, folder, repo, url, model, old = sys.argv[1:]
    sys.path[:0] = [str(PACKAGE / part / "inside") for part in ("box", "settings", "workspace")]
    import steward  # type: ignore[import-not-found]

    home = f"{folder}/box"
    room, steward.HOME, steward.CONFIG = f"{folder}/room", home, f"{home}/.claude"
    steward.ROOM, steward.VOLUME, steward.CLI = room, f"{folder}/volume", cli
    os.makedirs(room)
    os.makedirs(steward.CONFIG)
    steward.relay_module.UPSTREAM_PORT = int(url.rpartition(":")[2])
    steward.probe.examine = lambda _: iter([{"name": "here", "ok": True}])
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    made = steward.Steward()
    made.wish = _order(repo, url, model) | {"cwd": repo}
    own = {"HOME": home, "CLAUDE_CONFIG_DIR": steward.CONFIG, "ANTHROPIC_BASE_URL": url}
    made.wish["settings"]["env"] |= own
    environment = made.environment
    # The CLI takes no leave of permissions as root without it.
    made.environment = lambda: environment() | {"IS_SANDBOX": "1"}
    if old == "1":
        made.judge_repository = lambda _: []
    made.work()


def _order(repo: str, url: str, model: str) -> dict[str, Any]:
    """What a supervisor would tell the steward."""
    from plandock import paths
    from plandock.claude.login import Login
    from plandock.claude.redact import Secret
    from plandock.runs.model import Run, RunId
    from plandock.settings.keys import Settings
    from plandock.supervisor.order import start_order

    paths.run_dir("r222").mkdir(parents=True)
    (paths.run_dir("r222") / "plan.md").write_text("# Plan\n")
    run = Run(id=RunId("r222"), repo=repo, cwd=repo, branch="feature/auto", model=model)
    run = dataclasses.replace(run, fresh=True, box_session_id=str(uuid.uuid4()), upstream=url)
    login = Login("file", Secret(TOKEN), None, "max", ("user:inference",))
    return start_order(run, Settings(), login, ("Ada", "ada@example.invalid"), {})
