"""What the steward is told at the start of a run: the login, the CLI's arguments, the prompt."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from plandock.box import launch
from plandock.claude import credentials
from plandock.claude.billing import neutral_settings
from plandock.runs.model import Run
from plandock.settings.keys import Settings
from plandock.supervisor.briefing import prompt

# `plan` and question tools wait for a person, of whom there is none in a box; the push rule is a
# courtesy to the model, what holds is that there is nowhere to push to (facts, section 6).
DISALLOWED = ("Bash(git push:*)", "EnterPlanMode", "ExitPlanMode", "AskUserQuestion")
_A_YEAR_S = 365 * 24 * 3600.0


def start_order(
    run: Run, settings: Settings, login: credentials.Login, who: tuple[str, str]
) -> dict[str, Any]:
    """What the steward is told; the only message that carries the login."""
    secrets = login.box_secrets()
    if "oauth_token" in secrets:
        # As a file the token can be renewed while the run goes on, and no variable of the
        # repository's settings goes before it (measured with both versions).
        held = {
            "accessToken": secrets["oauth_token"],
            "expiresAt": int((time.time() + _A_YEAR_S) * 1000),
            "scopes": ["user:inference"],
        }
        secrets = {"credentials": {"claudeAiOauth": held}}
    upstream = "http://127.0.0.1:3129" if run.upstream else f"https://{launch.API_HOST}"
    kind = "api-key" if login.kind == "api-key" else "file"
    fixed = neutral_settings(base_url=upstream, kind=kind)
    if kind == "api-key":
        fixed["env"]["ANTHROPIC_API_KEY"] = secrets["api_key"]
    arguments = ["-p", "--input-format", "stream-json", "--output-format", "stream-json"]
    arguments += ["--verbose", "--dangerously-skip-permissions"]
    arguments += ["--max-turns", str(settings.max_turns)]
    if not run.fresh:
        arguments += ["--resume", Path(run.transcript).stem, "--fork-session"]
    arguments += ["--session-id", run.box_session_id]
    if run.model:
        arguments += ["--model", run.model]
    arguments += ["--disallowedTools", *DISALLOWED]
    return {
        "op": "start",
        **secrets,
        "settings": fixed,
        "billing": settings.billing,
        "stand_in": bool(run.upstream),
        "cwd": run.cwd,
        "name": who[0],
        "email": who[1],
        "setup": settings.setup,
        "arguments": arguments,
        "prompt": prompt(run),
    }
