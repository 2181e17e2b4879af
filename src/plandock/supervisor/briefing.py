"""The words that the agent gets: the plan where it does not know it, and what the box is like."""

from __future__ import annotations

from plandock import paths
from plandock.runs.model import Run


def prompt(run: Run) -> str:
    """What the agent is told: the plan where it does not know it, and what the box is like."""
    if run.fresh:
        return _from_plan(run, _circumstances(run))
    return f"Proceed with the approved plan.\n\n{_circumstances(run)}"


def prompt_anew(run: Run) -> str:
    """What it is told where its conversation cannot be opened: the plan, and to look around."""
    before = (
        "An earlier attempt may have done part of it: look at what is there already (git log, "
        "git status), and go on from there."
    )
    told = f"{_circumstances(run)}\n\n{before}"
    try:
        return _from_plan(run, told)
    except FileNotFoundError:  # taken away by somebody: what is there already is all that is known
        return f"Proceed with the approved plan.\n\n{told}"


def _from_plan(run: Run, told: str) -> str:
    plan = (paths.run_dir(run.id) / "plan.md").read_text("utf-8")
    return f"Implement the following plan:\n\n{plan}\n\n{told}"


def _circumstances(run: Run) -> str:
    return (
        f"You now run headless in a sealed container, on a copy of the repository at {run.repo}, "
        f"on the branch {run.branch}.{_folders(run)} Carry out the approved plan completely, "
        "without asking. Commit your work on this branch in sensible steps; the commits are "
        f"collected when you end. There is no remote: do not push. {_network(run)} You are an "
        "ordinary user without root; sudo and installing system packages do not work. Finish with "
        f"a short summary of what you did and what is left.{_user_messages(run)}"
    )


def _folders(run: Run) -> str:
    """Where the agent's shell begins, and which folders it would look for in vain."""
    elsewhere = run.cwd != run.repo or run.folders_left_out
    told = f" Your shell begins in {run.cwd}." if elsewhere else ""
    if run.folders_left_out:
        told += (
            f" Of this machine there is nothing else: {', '.join(run.folders_left_out)} is not "
            "here. Do not look for it; what the plan wants there stays undone, and you say so."
        )
    return told


def _user_messages(run: Run) -> str:
    """What the user wrote beside the plan, which the agent has not seen yet."""
    if not run.user_messages:
        return ""
    told = "\n\n".join(f"<message>\n{text}\n</message>" for text in run.user_messages)
    return f"\n\nBeside the plan the user wrote this, which counts as part of it:\n\n{told}"


# What the agent can do with each preset, in the words of its tools.
_TOOLS = {
    "npm": "npm install",
    "pypi": "pip install, as this user or in a venv",
    "crates": "cargo",
    "go": "go modules",
    "debian": "apt-get update and apt-get download, not install",
}


def _network(run: Run) -> str:
    """What the box can reach, and that everything else is refused on purpose."""
    parts = []
    for name, hosts in run.reach.items():
        listed = ", ".join(hosts)
        parts.append(f"{listed} ({_TOOLS[name]})" if name in _TOOLS else listed)
    if not parts:
        beside = "no network except the model's own API"
    else:
        beside = f"no network except the model's own API and, over https, {'; '.join(parts)}"
    tools = " The package clients are set up for that already." if run.reach else ""
    return (
        f"There is {beside}.{tools} Every other host is refused by design: do not retry it and "
        "do not look for a way around, say what was missing instead."
    )


def prompt_again(run: Run) -> str:
    """What the agent is told when its conversation goes on after it was broken off."""
    words = run.say or (
        "You were interrupted (a usage limit, a restart or the like). Look at what is there "
        "already (git log, git status), then go on with the approved plan where you left off. "
        "A command that was running when you were interrupted may have run half."
    )
    return (
        f"{words}\n\nYou are still headless in the sealed container, on the branch {run.branch}; "
        "what was said about it holds. Commit your work, and finish with a short summary."
    )
