"""Tells the user that a run has ended, or waits for them: each way once, whatever is killed."""

from __future__ import annotations

from plandock.claude.redact import redact
from plandock.errors import PlandockError
from plandock.notify import bell, command, desktop, news
from plandock.runs.model import Run, State
from plandock.runs.store import Store
from plandock.settings.keys import Settings
from plandock.supervisor.steps import say


def event_of(run: Run) -> str:
    """``done``, ``failed``, ``stopped`` or ``login``; "" where there is nothing to tell."""
    if run.state.final:
        return str(run.state)
    return "login" if run.state is State.WAITING and run.reason == "login" else ""


def tell(run_id: str) -> None:
    """Tell of a run as it stands now.  What cannot be told is a line in supervisor.log."""
    with Store() as store:
        try:
            run = store.get(run_id)
            event = event_of(run)
            # Recorded first: a note that comes twice is worse than one that a kill cost.
            if not event or not store.tell_once(run_id, f"{run.attempt}/{event}"):
                return
            if run.state.final:
                news.leave(store, run)
        except (PlandockError, OSError) as error:
            say(f"not told: {error}")
            return
    title, body = in_short(run, event)
    if desktop.show(title, body):
        say("told by the desktop")
    if bell.ring(run.terminal):
        say("told by the terminal's bell")
    words = Settings.from_dict(run.settings).notify
    if words:
        say(f"told by {words[0]}: {command.call(words, run, event)}")


def in_short(run: Run, event: str) -> tuple[str, str]:
    """A title and a line for a desktop; the plan's title is the only text of the user's."""
    if event == "login":
        return f"plandock: {run.id} waits for a login", redact(f"{run.plan_title}: {run.message}")
    brought = f"{run.commits} commit(s) on {run.branch}" if run.commits else "no commits"
    reason = f" ({run.reason})" if run.reason else ""
    return f"plandock: {run.id} is {run.state}{reason}", redact(f"{run.plan_title}: {brought}")
