"""Attacks on the terminal of whoever looks: what a box, a model or a commit said, shown raw.

Each payload stands wherever a stranger's text may stand in a run: title, branch, message, file
names and contents, closing words, notes, denied input, targets, the box's output.  Commands run
on a real pseudo-terminal: into a pipe, click itself would take colours out.
"""

from __future__ import annotations

import itertools
import json
import os
import pty
import subprocess
import sys
import termios
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from plandock import paths
from plandock.runs.model import Billing, Run, RunId, State, Usage
from plandock.runs.store import Store
from tests.support.repository import Repository

pytestmark = pytest.mark.timeout(1200)

PAYLOADS = {
    "colours": "\x1b[31;1mred\x1b[0m",
    "screen-cleared-and-rewritten": "\x1b[2J\x1b[H\x1b[1Aall checks passed",
    "window-title": "\x1b]0;owned\x07",
    "clipboard-by-osc-52": "\x1b]52;c;cm0gLXJmIH4=\x07",
    "hyperlink-by-osc-8": "\x1b]8;;https://evil.example\x1b\\README\x1b]8;;\x1b\\",
    "c1-csi": "\x9b31mred\x9b5n",
    "c1-osc": "\x9d0;owned\x9c",
    "device-control-string": "\x1bP$qm\x1b\\\x1bPq#0;2;0;0;0\x1b\\",
    "answer-as-if-typed": "\x1b[6n\x1b[c\x1b[5n\x1b]10;?\x07",
    "right-to-left-override": "photo_\u202egpj.exe",
    "isolates": "access\u2066 // user\u2069 \u2067admin\u2069",
    "line-overwritten": "rm -rf ~\rls      \x08\x08",
    "bell": "ding\x07\x07",
    "zero-width": "pass\u200bword\u2060\ufeff",
    "tag-characters": "ok\U000e0069\U000e0067\U000e006e",
    "delete-and-shifts": "a\x7f\x0e\x0fb",
    "sequence-within-a-sequence": "\x1b\x1b[[31m\x1b]\x1b]0;x\x07\x07",
    "unended-string": "\x1b]0;never ends \x1b_also not",
}


def acts(text: str) -> list[str]:
    """The characters of a text that steer a terminal or make a line read as another."""
    bad = {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs")}
    return sorted(bad - {"\n", "\t"})


def record(repo: Repository, payload: str, run_id: str, **values: Any) -> Run:
    """A run of which everything that a stranger wrote holds the payload."""
    said = f"before {payload} after"
    entry = {"target": f"{payload}.example:443", "why": said, "count": 2}
    made = Run(
        id=RunId(run_id),
        repo=str(repo.root),
        cwd=str(repo.root),
        handoff_key=run_id,
        created_at="2026-01-02T03:04:05.000Z",
        started_at="2026-01-02T03:04:06.000Z",
        ended_at="2026-01-02T03:05:06.500Z",
        plan_title=said,
        billing=Billing("subscription", "none", said),
        usage=Usage(10, 20, 30, 0.5),
        reason=said,
        message=said,
        hint=said,
        outcome=said,
        notes=[said],
        isolation=said,
        model=said,
        cli_version=payload,
        denied=[{"tool": f"Bash{payload}", "input": {"command": said}}],
        flagged_files=[f"Makefile{payload}"],
        egress=[{"decision": "allowed", **entry}, {"decision": "refused", **entry}],
        reach={"egress": [f"{payload}.example"]},
        **values,
    )
    with Store() as store:
        stored, _ = store.add(made, name_branch=lambda _: str(values["branch"]))
        store.note_event(stored.id, "agent", {"said": said})
    folder = paths.run_dir(run_id)
    folder.mkdir(parents=True)
    content = [
        {"type": "text", "text": said},
        {"type": "tool_use", "name": payload, "input": {"command": said}},
    ]
    lines: list[dict[str, object]] = [
        {"type": "assistant", "message": {"content": content}},
        {"type": "plandock", "event": payload, "output": said},
        {"type": "result", "subtype": said},
    ]
    (folder / "events.jsonl").write_text(
        "".join(json.dumps(x, ensure_ascii=False) + "\n" for x in lines), encoding="utf-8"
    )
    (folder / "supervisor.log").write_text(f"building {said}\n", encoding="utf-8", newline="")
    return stored


@pytest.fixture
def hostile(repo: Repository) -> Callable[[str], Run]:
    """Two recorded runs full of a payload: one with work that can be taken, and one that failed."""

    def make(payload: str) -> Run:
        base = repo.head()
        # What git forbids in a branch goes (git-check-ref-format); C1 and direction marks stay.
        slug = "".join(c for c in payload if ord(c) > 0x20 and c not in "\x7f~^:?*[\\/")
        branch = f"work/x{slug}x"
        repo.git("switch", "-q", "-c", branch)
        name = f"n {payload.replace('/', '_')} n.txt"
        body = f"text {payload}\n".encode() + b"raw \x9b31m\n"
        repo.write({name: body, "README.md": f"changed {payload}\n"})
        repo.git("add", "--all")
        repo.git("commit", "-q", "--cleanup=verbatim", "-m", f"Subject {payload}\n\n{payload}")
        head = repo.head()
        repo.git("switch", "-q", "main")
        work = {"branch": branch, "base": base, "snapshot": base, "head": head, "commits": 1}
        record(repo, payload, "r333", state=State.FAILED, exit_code=23, branch="gone")
        return record(repo, payload, "r222", state=State.DONE, **work)

    return make


# Imports the program once and forks for each command: else imports take most of the time.  A
# command behind "!" is the user's own.
DRIVER = """
import json, os, sys
from plandock.cli import app, inspecting
words, mark = json.loads(sys.argv[1])
for command in words:
    child = os.fork()
    if not child:
        if command[0] == "!":
            os.execvp(command[1], command[1:])
        sys.argv = ["plandock", *command]
        code = app.main()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.write(1, f"{mark}{code}{mark}".encode())
"""
MARK = "<<<a command has ended>>>"


def on_a_terminal(repo: Repository, *commands: str, answer: str = "") -> list[tuple[str, str]]:
    """Each command, and what it writes on a terminal that is its input, output and errors."""
    ours, theirs = pty.openpty()
    mode = termios.tcgetattr(theirs)
    mode[1] &= ~termios.OPOST  # the terminal's own "\r" before "\n" is not the command's
    mode[3] &= ~termios.ECHO
    termios.tcsetattr(theirs, termios.TCSANOW, mode)
    os.write(ours, answer.encode())
    order = json.dumps([[x.split(" ") for x in commands], MARK])
    child = subprocess.Popen(
        [sys.executable, "-c", DRIVER, order],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=repo.root,
        # A plain terminal: plandock's own bold and dim are not what is looked for.
        env={**os.environ, "TERM": "dumb", "COLUMNS": "400", "PAGER": "cat"},
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    try:
        while chunk := os.read(ours, 65536):
            said += chunk
    except OSError:
        pass  # Linux's way to say that nobody holds the other end any more
    finally:
        os.close(ours)
        child.wait(240)
    parts = said.decode("utf-8").split(MARK)
    texts, codes = parts[:-1:2], parts[1::2]
    assert len(texts) == len(commands), said
    assert "3" not in codes, said  # 3: a bug
    return list(zip(commands, texts, strict=True))


LOOKING = (
    "ps --all", "show r222", "show r333", "receipt r222", "receipt r333", "logs r222",
    "logs r222 --supervisor", "logs r222 --egress", "diff r222", "wait r222", "wait r333",
    "merge r222",
)  # fmt: skip
AS_JSON = (
    "ps --json", "show r222 --json", "receipt r222 --json", "logs r222 --json",
    "logs r222 --egress --json", "wait r333 --json",
)  # fmt: skip
TAKING = ("apply r222 --yes", "merge r222 --yes")


@dataclass(frozen=True)
class Shown:
    """What a terminal got of one payload, by what the user did."""

    looking: dict[str, str]
    as_json: dict[str, str]
    blocked: dict[str, str]
    applied: dict[str, str]
    merged: dict[str, str]
    by_plain_git: bytes


@pytest.fixture(scope="module")
def everything() -> dict[str, Shown]:
    """What was shown of each payload, which is looked at once for all tests."""
    return {}


@pytest.fixture
def shown(
    name: str,
    hostile: Callable[[str], Run],
    repo: Repository,
    everything: dict[str, Shown],
) -> Shown:
    """Every command has shown a payload."""
    if name not in everything:
        run = hostile(PAYLOADS[name])
        by_git = subprocess.run(
            ["git", "log", "-1", "--format=%B", run.head], cwd=repo.root, capture_output=True,
            check=True,
        ).stdout  # fmt: skip
        # Of two takings, the second meets the files that the first has put there.
        parts = (
            AS_JSON, LOOKING, ("! cp .gitignore README.md",), TAKING,
            ("! git checkout -q README.md",), TAKING, ("! git stash -q -u",), TAKING[1:],
        )  # fmt: skip
        said = iter(on_a_terminal(repo, *itertools.chain(*parts), answer="n\n"))
        as_json, looking, _, blocked, _, applied, _, merged = (
            dict(itertools.islice(said, len(part))) for part in parts
        )
        everything[name] = Shown(looking, as_json, blocked, applied, merged, by_git)
    return everything[name]


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_hostile_text_does_nothing_to_the_terminal_that_it_is_shown_on(shown: Shown) -> None:
    """Whatever command shows it, on a real terminal: no escape, control or direction character."""
    steps = (shown.looking, shown.blocked, shown.applied, shown.merged)
    assert {(k, n): acts(v) for n, x in enumerate(steps) for k, v in x.items() if acts(v)} == {}
    # The text around it did come: this was no test of silence.
    for command in ("show r222", "receipt r222", "logs r222", "logs r222 --supervisor"):
        assert "before" in shown.looking[command], command
    assert "+text" in shown.looking["diff r222"]
    assert "flagged: Makefile" in shown.looking["merge r222"]
    assert all("README.md" in x for x in shown.blocked.values())
    assert "applied r222" in shown.applied[TAKING[0]]
    assert "merged work/" in shown.merged[TAKING[1]]


@pytest.mark.parametrize("name", PAYLOADS)
def test_json_of_a_hostile_text_is_plain_ascii(shown: Shown, name: str) -> None:
    """Scripts get every character, spelled out; a terminal that sees the JSON gets none."""
    assert [k for k, v in shown.as_json.items() if not v.isascii() or acts(v)] == []
    assert PAYLOADS[name] in json.loads(shown.as_json["show r222 --json"])["plan_title"]
    assert PAYLOADS[name] in json.loads(shown.as_json["wait r333 --json"])["message"]


@pytest.mark.parametrize("name", PAYLOADS)
def test_the_attack_is_real_plain_git_shows_the_message_raw(shown: Shown, name: str) -> None:
    """The positive control: what `git log` writes holds the very bytes."""
    assert PAYLOADS[name].encode() in shown.by_plain_git
    assert acts(PAYLOADS[name])


def test_an_error_about_a_hostile_name_is_shown_without_it(repo):
    """A command's own argument comes into complaints: those are clean, too."""
    named = [f"show {x.replace(' ', '_')}" for x in PAYLOADS.values()]
    shown = dict(on_a_terminal(repo, *named, *(x.replace("show ", "frob") for x in named)))
    assert {k: acts(v) for k, v in shown.items() if acts(v)} == {}
    assert all(x.strip() for x in shown.values())


def test_recover_shows_nothing_of_a_hostile_run_raw(hostile, repo):
    """It compares stores with engines: what runs are called and say is no part of its words."""
    hostile(PAYLOADS["clipboard-by-osc-52"] + PAYLOADS["isolates"])
    shown = dict(on_a_terminal(repo, "recover --dry-run", "recover --dry-run --json"))
    assert {k: acts(v) for k, v in shown.items() if acts(v)} == {}
    assert shown["recover --dry-run --json"].isascii()
