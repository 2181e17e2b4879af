"""An acceptance as Claude Code delivers it: the wired hook's own process, a payload it once sent.

Claude Code itself is not there: what it sends was recorded from the real one.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Any

from plandock.hook.launcher import HOOKS
from tests.support.hooks import VERSIONS, Answer, finish, load
from tests.support.laptop import Laptop

VERSION, CASE = VERSIONS[-1], "auto"
ACCEPTED = "PostToolUse-ExitPlanMode-auto"
PROMPT = "UserPromptSubmit"


def command(event: str, word: str) -> str:
    """The shell command that `plandock init` wires for an event, as Claude Code gets it."""
    return next(h.command for h in HOOKS if (h.event, h.word) == (event, word))


def payload(laptop: Laptop, name: str, *, cwd: Path | None = None, **changes: Any) -> bytes:
    """A payload that the real CLI once sent, moved to this laptop, in the CLI's own spelling."""
    text = json.dumps(load(VERSION, CASE, name))
    text = text.replace("/home/user/project", str(cwd or laptop.repo.root))
    data = json.loads(text.replace("/home/user", str(laptop.home))) | changes
    # Without blanks, as it comes: the launcher reads the session's id off its beginning.
    return json.dumps(data, separators=(",", ":")).encode()


def acceptance(
    laptop: Laptop, plan: str, *, session: str = "", cwd: Path | None = None, **changes: Any
) -> bytes:
    """The payload of an acceptance with a session, unless one is named, and a call of its own."""
    return payload(
        laptop,
        ACCEPTED,
        cwd=cwd,
        session_id=session or str(uuid.uuid4()),
        tool_use_id=f"toolu_{uuid.uuid4().hex[:22]}",
        tool_response={"plan": plan, "isAgent": False},
        **changes,
    )


def start(laptop: Laptop, event: str, word: str, given: bytes) -> subprocess.Popen[bytes]:
    """Start the wired command of an event (`plandock init` must have been run) on a payload."""
    with tempfile.TemporaryFile() as file:
        file.write(given)
        file.seek(0)
        return subprocess.Popen(
            ["sh", "-c", command(event, word)],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=laptop.env,
            cwd=json.loads(given)["cwd"],
        )


def accept(laptop: Laptop, plan: str, **changes: Any) -> Answer:
    """An acceptance, to the hook's answer."""
    return finish(start(laptop, "PostToolUse", "accepted", acceptance(laptop, plan, **changes)))


def prompt(laptop: Laptop, session: str) -> Answer:
    """The user speaks to a conversation again: the hook's answer."""
    given = payload(laptop, PROMPT, session_id=session)
    return finish(start(laptop, PROMPT, "prompt", given))
