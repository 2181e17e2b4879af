"""The shell in front of Python, run for real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from plandock.hook.launcher import HOOKS, remove_launcher, write_launcher

MINE = "0a1b2c3d-0000-4000-8000-000000000001"
OTHER = "0a1b2c3d-0000-4000-8000-000000000002"

SHELLS = [
    [path, *words]
    for name, *words in (("sh",), ("dash",), ("bash", "--posix"), ("busybox", "sh"))
    if (path := shutil.which(name))
]


@pytest.fixture(params=SHELLS, ids=lambda words: Path(words[0]).name)
def shell(request: pytest.FixtureRequest) -> list[str]:
    """Each POSIX shell that is on this machine."""
    words: list[str] = request.param
    return words


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder with odd characters in its name, and a launcher whose Python takes notes."""
    home = tmp_path / "st*te $(touch evil) 'q\" ü"
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    entry = tmp_path / "an entry's.py"
    entry.write_text(
        "import os, sys\n"
        f"with open({str(tmp_path / 'called')!r}, 'wb') as f:\n"
        "    f.write(sys.argv[1].encode() + b'\\n' + sys.stdin.buffer.read())\n"
        "sys.stderr.write('refused')\n"
        "sys.exit(2)\n"
    )
    write_launcher(sys.executable, entry)
    return home / "plandock"


def mark(state: Path, folder: str, name: str = MINE) -> None:
    """Leave a mark, as the hook does."""
    (state / folder).mkdir(exist_ok=True)
    (state / folder / name).write_text("{}")


def run(
    shell: list[str], state: Path, word: str, payload: bytes, path: str | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a wired command as Claude Code does, in an empty folder."""
    cwd = state.parent.parent / "cwd"
    cwd.mkdir(exist_ok=True)
    command = next(hook.command for hook in HOOKS if hook.word == word) + " # plandock"
    done = subprocess.run(
        [*shell, "-c", command], input=payload, capture_output=True, cwd=cwd, check=False,
        env={
            "PATH": os.environ["PATH"] if path is None else path,
            "HOME": str(cwd), "XDG_STATE_HOME": str(state.parent),
        },
    )  # fmt: skip
    assert list(cwd.iterdir()) == [], "the payload or a path was evaluated"
    return done


def called(state: Path) -> tuple[str, bytes] | None:
    """The word and the payload that Python got, if it was started."""
    try:
        word, payload = (state.parent.parent / "called").read_bytes().split(b"\n", 1)
    except FileNotFoundError:
        return None
    return word.decode(), payload


def payload(session: str = MINE, **more: object) -> bytes:
    """A payload as Claude Code writes it."""
    return json.dumps({"session_id": session, **more}, separators=(",", ":")).encode()


@pytest.mark.parametrize("word", ["guard", "prompt", "cleared-end", "cleared-start"])
@pytest.mark.parametrize("there", [True, False])
def test_without_a_mark_no_program_is_started(
    shell: list[str], state: Path, tmp_path: Path, word: str, there: bool
) -> None:
    """With the folders empty or absent the shell's builtins do: PATH may be empty."""
    for folder in ("latch", "note", "proposed") if there else ():
        (state / folder).mkdir()
    (tmp_path / "nothing").mkdir()
    done = run(shell, state, word, payload(), path=str(tmp_path / "nothing"))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert called(state) is None


def test_a_latch_for_this_session_starts_python(shell: list[str], state: Path) -> None:
    """The whole payload arrives, and the refusal (exit 2, reason on stderr) comes back."""
    mark(state, "latch")
    text = payload(tool_input={"x": "é" * 300 + "%s\\n$(touch evil)`touch evil`"}) + b"\n\n"
    done = run(shell, state, "guard", text)
    assert (done.returncode, done.stderr) == (2, b"refused")
    assert called(state) == ("guard", text)


def test_a_latch_for_another_session_starts_no_python(shell: list[str], state: Path) -> None:
    """Other sessions pay the shell alone, even where their payload names the latched one."""
    mark(state, "latch")
    text = payload(OTHER, tool_input={"a": f'{{"session_id":"{MINE}"', "session_id": MINE})
    done = run(shell, state, "guard", text)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert called(state) is None


@pytest.mark.parametrize(
    "session",
    ["*", "?", "[0-9]*", "../latch/" + MINE, ".", "", "'; touch evil; '", "$(touch evil)",
     "a\\u0062", 'a"b', "x" * 300, "`touch evil`", "-e", "a b", "é"],
)  # fmt: skip
def test_odd_session_ids_are_left_to_python_or_matched_literally(
    shell: list[str], state: Path, session: str
) -> None:
    """No id is a pattern, a path or code; where the shell cannot tell, Python looks."""
    mark(state, "latch")
    text = payload(session)
    done = run(shell, state, "guard", text)
    if session == "-e":  # well-formed, and no latch has that name
        assert (done.returncode, called(state)) == (0, None)
    else:
        assert (done.returncode, called(state)) == (2, ("guard", text))


@pytest.mark.parametrize(
    "text",
    [b"", b"\n", b"{}", b'{"session_id":', b'{"session_id":"' + MINE.encode(), b"\xff\xfe{",
     b'{ "session_id": "' + OTHER.encode() + b'"}', b'{"cwd":"/","session_id":"x"}',
     b" " * 300 + b"{}", b"\n" * 300 + b"{}"],
)  # fmt: skip
def test_payloads_that_begin_otherwise_go_to_python_whole(
    shell: list[str], state: Path, text: bytes
) -> None:
    """A payload whose beginning the shell does not know is Python's to judge."""
    mark(state, "latch")
    assert run(shell, state, "guard", text).returncode == 2
    assert called(state) == ("guard", text)


def test_a_large_payload_arrives_whole(shell: list[str], state: Path) -> None:
    """Five megabytes pass through the launcher without a byte lost."""
    mark(state, "latch")
    text = payload(tool_input={"content": "0123456789\\\n" * 400_000})
    assert len(text) > 5_000_000
    run(shell, state, "guard", text)
    assert called(state) == ("guard", text)


@pytest.mark.parametrize(
    ("word", "folder"),
    [("prompt", "note"), ("prompt", "latch"), ("prompt", "proposed"),
     ("cleared-end", "proposed"), ("cleared-start", "proposed"),
     ("proposed", ""), ("accepted", "")],
)  # fmt: skip
def test_the_other_words_reach_python(
    shell: list[str], state: Path, word: str, folder: str
) -> None:
    """A mark (of any session), or a plan itself, starts Python with word and payload."""
    if folder:
        mark(state, folder, OTHER)
    text = payload(plan="# x\n")
    assert run(shell, state, word, text).returncode == 2
    assert called(state) == (word, text)


def test_temporary_files_are_no_marks(shell: list[str], state: Path) -> None:
    """A mark that is just being written (a name with a dot in front) starts nothing."""
    mark(state, "latch", "." + MINE)
    assert run(shell, state, "guard", payload()).returncode == 0


@pytest.mark.parametrize("missing", ["python", "entry"])
def test_a_broken_installation_says_so_once(
    shell: list[str], state: Path, tmp_path: Path, missing: str
) -> None:
    """With Python or plandock gone nothing is blocked; only an accepted plan gets a message."""
    mark(state, "latch")
    gone = tmp_path / "gone"
    write_launcher(
        str(gone) if missing == "python" else sys.executable,
        gone if missing == "entry" else tmp_path / "an entry's.py",
    )
    for word in ("guard", "proposed", "prompt"):
        done = run(shell, state, word, payload())
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    done = run(shell, state, "accepted", payload())
    assert done.returncode == 0
    assert "not installed" in json.loads(done.stdout)["systemMessage"]


def test_without_a_launcher_the_command_on_the_path_is_asked(
    shell: list[str], state: Path, tmp_path: Path
) -> None:
    """A colleague with shared settings: `plandock hook` when installed, else nothing."""
    assert remove_launcher()
    assert not remove_launcher()
    mark(state, "latch")
    for hook in HOOKS:
        done = run(shell, state, hook.word, payload())
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "plandock").write_text('#!/bin/sh\nprintf "%s:" "$@"; cat\n')
    (tools / "plandock").chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    assert run(shell, state, "accepted", payload(), path).stdout == b"hook:" + payload()
    assert run(shell, state, "guard", payload(), path).stdout == b""


def test_a_relative_state_home_does_not_count(shell: list[str], tmp_path: Path) -> None:
    """As the XDG specification says, and as plandock's own paths do."""
    (tmp_path / "rel/plandock/latch").mkdir(parents=True)
    (tmp_path / "rel/plandock/latch/x").touch()
    (tmp_path / "rel/plandock/hook").write_text("echo taken\n")
    done = subprocess.run(
        [*shell, "-c", HOOKS[0].command], capture_output=True, cwd=tmp_path, check=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_STATE_HOME": "rel"},
    )  # fmt: skip
    assert done.stdout == b""


def test_the_launcher_is_private_and_replaced_in_one_step(state: Path, tmp_path: Path) -> None:
    """Mode 0700, nothing left beside it, and a second init overwrites it."""
    before = (state / "hook").read_bytes()
    assert write_launcher("/opt/other python", tmp_path / "x") == state / "hook"
    assert (state / "hook").stat().st_mode & 0o777 == 0o700
    assert (state / "hook").read_bytes() != before
    assert b"python='/opt/other python'" in (state / "hook").read_bytes()
    assert [p.name for p in state.iterdir()] == ["hook"]
