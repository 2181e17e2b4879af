"""What the steward is told at the start of a run: the login, the CLI's arguments, the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plandock import paths
from plandock.box import launch
from plandock.claude.billing import neutral_settings
from plandock.claude.login import Login
from plandock.runs.model import Run
from plandock.settings.inside.repository_settings import Judged, judge
from plandock.settings.keys import Settings
from plandock.supervisor import paying
from plandock.supervisor.briefing import prompt, prompt_again, prompt_anew

# `plan` and question tools wait for a person, of whom there is none in a box; the push rule is a
# courtesy to the model, what holds is that there is nowhere to push to (facts, section 6).  What
# asks for a turn at a later time (a schedule, a wake-up) would never get it: the run is over then.
# What is committed in a work tree of the session's own would not be on the run's branch.
DISALLOWED = (
    "Bash(git push:*)",
    "EnterPlanMode",
    "ExitPlanMode",
    "AskUserQuestion",
    "CronCreate",
    "ScheduleWakeup",
    "RemoteTrigger",
    "EnterWorktree",
)


def start_order(
    run: Run, settings: Settings, login: Login, who: tuple[str, str], clients: Mapping[str, Any]
) -> dict[str, Any]:
    """What the steward is told: with the login, or with the placeholder of a sealed one.

    ``clients`` is how the box's package clients are to be set up (:mod:`plandock.gateway.presets`).
    """
    sealed = settings.credentials == "sealed"
    # Both go by the reverse route: the stand-in's, or the one on which the gateway adds the token.
    by_route = bool(run.upstream) or sealed
    upstream = "http://127.0.0.1:3129" if by_route else f"https://{launch.API_HOST}"
    kind = "api-key" if login.kind == "api-key" else "file"
    fixed = neutral_settings(base_url=upstream, kind=kind)
    secrets: dict[str, Any] = {}
    if kind == "api-key":
        secrets = login.box_secrets()
        fixed["env"]["ANTHROPIC_API_KEY"] = secrets["api_key"]
    else:
        secrets = {"credentials": login.box_file(sealed=sealed)}
    variables = run.session_setup.get("variables")
    fixed["env"] |= variables if isinstance(variables, dict) else {}
    fixed |= session_words(run).carried
    if run.session_setup.get("thinking") is False:
        fixed["alwaysThinkingEnabled"] = False
    head = ["-p", "--input-format", "stream-json", "--output-format", "stream-json"]
    head += ["--verbose", "--dangerously-skip-permissions"]
    head += ["--max-turns", str(settings.max_turns)]
    if settings.max_budget_usd is not None:
        head += ["--max-budget-usd", f"{settings.max_budget_usd:g}"]
    fork = [] if run.fresh else ["--resume", Path(run.transcript).stem, "--fork-session"]
    # By its name, so that no settings of a repository choose one where nothing is known.
    tail = ["--model", run.model or "default"]
    tail += ["--effort", run.effort] if run.effort else []
    tail += ["--disallowedTools", *DISALLOWED]
    return {
        "op": "start",
        **secrets,
        "settings": fixed,
        "billing": settings.billing,
        "credits_left_usd": _credits_left_usd(run, settings),
        "gateway_judges": paying.gateway_judges(settings.billing, settings.credentials),
        "by_route": by_route,
        "cwd": run.cwd,
        "name": who[0],
        "email": who[1],
        "setup": settings.setup,
        "clients": clients,
        # Which of the two is for the steward to see: it has the conversation before it.
        "conversation": f"projects/{paths.project_key(run.cwd)}/{run.box_session_id}.jsonl",
        "arguments": [*head, *fork, "--session-id", run.box_session_id, *tail],
        "prompt": prompt(run),
        "again": [*head, "--resume", run.box_session_id, *tail],
        "prompt_again": prompt_again(run),
        # Where the CLI cannot open the conversation: from the plan.
        "anew": [*head, "--session-id", run.box_session_id, *tail],
        "prompt_anew": prompt_anew(run),
        "time_left_s": max(1.0, settings.timeout_s - run.active_s),
        "silence_s": settings.silence_s,
        "background_s": settings.background_s,
    }


def session_words(run: Run) -> Judged:
    """What counts of the settings that say how the model is to write, as the session had them."""
    words = run.session_setup.get("words")
    return judge(words if isinstance(words, dict) else {}, "", run.cwd)


def _credits_left_usd(run: Run, settings: Settings) -> float | None:
    """What the CLI may use once usage credits pay; None: without a limit."""
    if settings.max_credits_usd is None:
        return None
    left = max(0.0, settings.max_credits_usd - (run.billing.credits_usd or 0.0))
    return min(left, settings.max_budget_usd or left)
