"""The receipt: what a run did, as JSON beside the run and as text for people."""

from __future__ import annotations

import json
import os
from datetime import datetime
from typing import Any

from plandock import paths
from plandock.printable import one_line
from plandock.runs.model import Run
from plandock.runs.store import Store
from plandock.supervisor import accounts, paying

# A box may have asked for thousands; the rest of the line has to be seen, too.
_MOST_TARGETS = 8


def receipt_of(run: Run) -> dict[str, Any]:
    """The receipt as a JSON object: the run's own keys, and the sentences that matter."""
    data = run.to_json()
    data["version"] = 1
    data["payer"] = payer(run)
    data["usage_credits"] = paying.in_words(run)
    data["stand_in"] = run.upstream or None
    data["duration_s"] = _duration_s(run)
    data["next"] = next_steps(run)
    return data


def payer(run: Run) -> str:
    """Who paid, in a sentence."""
    if run.upstream and run.billing.source:
        by_key = run.billing.source == "api-key"
        who = "an API key" if by_key else "your Claude subscription"
        end = "" if by_key else "; no API key was used"
        return f"nobody: a stand-in answered; otherwise {who} would have paid{end}"
    if run.billing.source == "subscription":
        plan = f" ({run.billing.subscription})" if run.billing.subscription else ""
        plan += " and its usage credits" if run.billing.credits_used else ""
        return f"your Claude subscription{plan}; no API key was used"
    if run.billing.source == "api-key":
        return 'your API key, per token, because billing = "api-key" is set'
    return "nobody: the agent never started" if run.state.final else "not known yet"


def next_steps(run: Run) -> list[str]:
    """What to type next."""
    if run.commits:
        steps = [f"plandock diff {run.id}", f"plandock merge {run.id}", f"plandock apply {run.id}"]
    else:
        steps = [f"plandock logs {run.id}"]
    if run.box_session_id and run.state.final:  # only then has it been brought home
        steps.append(f"plandock open {run.id}")
    return steps


def write_receipt(store: Store, run: Run) -> None:
    """Write receipt.json into the run's folder, whole or not at all."""
    target = paths.run_dir(run.id) / "receipt.json"
    temporary = target.with_suffix(".new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(receipt_of(run), file, indent=2)
        file.write("\n")
    os.replace(temporary, target)
    store.note_event(run.id, "receipt")


def as_text(run: Run) -> str:
    """The receipt for people."""
    usage, seconds = run.usage, _duration_s(run)
    rows = [
        ("run", f"{run.id}  {run.state}" + (f" ({run.reason})" if run.reason else "")),
        ("plan", run.plan_title),
        ("from", f"{run.base[:12]} in {run.repo}"),
        ("branch", f"{run.branch}  {run.commits} commit(s)" if run.commits else "no commits"),
        ("paid by", payer(run)),
        *(("account", text) for text in accounts.in_words(run)),
        ("credits", paying.in_words(run)),
        ("time", f"{seconds:.0f} s, {run.turns} turn(s)" if seconds is not None else "-"),
        (
            "tokens",
            f"{usage.input_tokens} in, {usage.output_tokens} out, "
            f"{usage.cache_read_tokens} from cache",
        ),
        ("model", _model(run)),
        ("box", f"{run.engine} {run.image}, Claude Code {run.cli_version}"),
        ("isolation", run.isolation or "not probed"),
        ("egress", _egress(run)),
        ("reached", _targets(run, "allowed") or ("the stand-in" if run.upstream else "nothing")),
        ("refused", _targets(run, "refused") + _unwritten(run) or "nothing"),
    ]
    if run.upstream:
        rows.append(("stand-in", f"{run.upstream} stood in for Anthropic's API"))
    rows += [("flagged", name) for name in run.flagged_files[:20]]
    if len(run.flagged_files) > 20:
        more = len(run.flagged_files) - 20
        rows.append(("flagged", f"and {more} more (plandock show {run.id} --json)"))
    rows += [("denied", f"{d.get('tool')} {d.get('input')}") for d in run.denied[:10]]
    rows += [("note", note) for note in run.notes[:20]]
    if run.message:
        rows.append(("why", run.message))
    if run.outcome:
        rows.append(("summary", " ".join(run.outcome.split())[:600]))
    rows += [("next", step) for step in ([run.hint] if run.hint else []) + next_steps(run)]
    return "\n".join(f"{name:>9}  {one_line(text, limit=700)}" for name, text in rows)


def _model(run: Run) -> str:
    """The model that was wanted, how that is known, and which one the API answered with."""
    wanted = run.model or "Claude Code's default"
    effort = f", effort {run.effort}" if run.effort else ""
    origin = f" (by {run.model_origin})" if run.model and run.model_origin else ""
    asked = f"; answered by {', '.join(run.models_asked)}" if run.models_asked else ""
    return f"{wanted}{origin}{effort}{asked}"


def _duration_s(run: Run) -> float | None:
    if not (run.started_at and run.ended_at):
        return None
    start, end = (datetime.fromisoformat(t).timestamp() for t in (run.started_at, run.ended_at))
    return end - start


def _egress(run: Run) -> str:
    """What the gateway was told to let through: presets with their hosts, and named hosts."""
    parts = []
    for name, hosts in run.reach.items():
        listed = ", ".join(hosts)
        parts.append(listed if name == "egress" else f"{name} ({listed})")
    return "; ".join(["Anthropic's API alone" if not parts else "Anthropic's API", *parts])


def _unwritten(run: Run) -> str:
    count = sum(e.get("count", 1) for e in run.egress if e["decision"] == "suppressed")
    return f"; and {count} more, too many at once to be written one by one" if count else ""


def _targets(run: Run, decision: str) -> str:
    """The hosts of one decision, with how often where it was more than once."""
    times: dict[str, int] = {}
    for entry in run.egress:
        if entry["decision"] == decision:
            name = entry["target"] or f"({entry.get('why')})"
            times[name] = times.get(name, 0) + entry.get("count", 1)
    shown = [
        one_line(name, limit=60) + (f" ×{n}" if n > 1 else "")
        for name, n in list(times.items())[:_MOST_TARGETS]
    ]
    more = len(times) - len(shown)
    if more > 0:
        shown.append(f"and {more} more (plandock logs {run.id} --egress)")
    return ", ".join(shown)
