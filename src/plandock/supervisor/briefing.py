"""The words that the agent gets: the plan where it does not know it, and what the box is like."""

from __future__ import annotations

from plandock import paths
from plandock.runs.model import Run


def prompt(run: Run) -> str:
    """What the agent is told: the plan where it does not know it, and what the box is like."""
    told = (
        f"You now run headless in a sealed container, on a copy of the repository at {run.repo}, "
        f"on the branch {run.branch}. Carry out the approved plan completely, without asking. "
        "Commit your work on this branch in sensible steps; the commits are collected when you "
        "end. There is no remote and no network except the model's own API: do not push, and do "
        "not retry what needs the network. Finish with a short summary of what you did and what "
        "is left."
    )
    if not run.fresh:
        return f"Proceed with the approved plan.\n\n{told}"
    plan = (paths.run_dir(run.id) / "plan.md").read_text("utf-8")
    return f"Implement the following plan:\n\n{plan}\n\n{told}"
