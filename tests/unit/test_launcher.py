"""The shell in front of Python, run for real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from plandock.hook.launcher import HOOKS, hooks, remove_launcher, write_launcher

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
     b'{ "session": "' + OTHER.encode() + b'"}', b'{"cwd":"/","session_id":"x"}',
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
     ("cleared-end", "proposed"), ("proposed", "")],
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


@pytest.mark.parametrize("session", [MINE, OTHER], ids=["its plan", "another's plan"])
def test_a_clearing_latches_before_python_starts(
    shell: list[str], state: Path, tmp_path: Path, session: str
) -> None:
    """What was queued calls its first tool at once; Python may be too late."""
    mark(state, "proposed", session)
    stand_in(state, tmp_path, "sys.exit(1)")
    run(shell, state, "cleared-end", payload())
    kind = {"by": "launcher", "kind": "cleared-away"}
    assert latch(state) == (kind if session == MINE else None)


def test_temporary_files_are_no_marks(shell: list[str], state: Path) -> None:
    """A mark that is just being written (a name with a dot in front) starts nothing."""
    mark(state, "latch", "." + MINE)
    assert run(shell, state, "guard", payload()).returncode == 0


def stand_in(state: Path, tmp_path: Path, code: str) -> None:
    """A launcher whose Python does this and nothing else; it may read its payload first."""
    entry = tmp_path / "another.py"
    entry.write_text(f"import json, os, sys, time\nsys.stdin.buffer.read()\n{code}\n")
    assert write_launcher(sys.executable, entry).parent == state


def latch(state: Path, session: str = MINE) -> object:
    """The latch that stands for a session, or None."""
    file = state / "latch" / session
    return json.loads(file.read_bytes()) if file.exists() else None


def accepted(mode: str = "auto", session: str = MINE, **more: object) -> bytes:
    """The payload of an acceptance, its fields in Claude Code's order."""
    fields = {"transcript_path": "/t", "cwd": "/c", "prompt_id": "p", "permission_mode": mode}
    tool = {"tool_name": "ExitPlanMode", "tool_input": {}, "tool_response": {"plan": "# x"}}
    return payload(session, **fields, hook_event_name="PostToolUse", **tool, **more)


KILLED = "os.kill(os.getpid(), 9)"
BROKEN = [KILLED, "import no_such_module", "sys.exit(2)", "sys.exit(77)"]


@pytest.mark.parametrize("code", BROKEN)
def test_an_acceptance_stops_and_latches_where_python_fails(
    shell: list[str], state: Path, tmp_path: Path, code: str
) -> None:
    """The turn ends, the user hears why, and the session's next tool calls are refused."""
    stand_in(state, tmp_path, code)
    done = run(shell, state, "accepted", accepted())
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["continue"]) == (0, False)
    assert "did not come to an end" in answer["stopReason"]
    assert f"plandock run --session {MINE}" in answer["stopReason"]
    assert latch(state) == {"by": "launcher", "kind": "handing-off"}
    assert (state / "latch" / MINE).stat().st_mode & 0o777 == 0o600
    # Python itself is not asked: it may hang, or be ended once more.
    stand_in(state, tmp_path, "time.sleep(600)")
    done = run(shell, state, "guard", payload())
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"No tool may run here" in done.stderr
    assert run(shell, state, "guard", payload(OTHER)).returncode == 0


def test_the_latch_stands_before_python_starts(
    shell: list[str], state: Path, tmp_path: Path
) -> None:
    """Python finds it; what Python leaves in its place is not touched, and it says how it goes."""
    mark_file = str(state / "latch" / MINE)
    code = f"sys.stdout.write(open({mark_file!r}).read()); os.unlink({mark_file!r})"
    stand_in(state, tmp_path, code)
    done = run(shell, state, "accepted", accepted())
    assert json.loads(done.stdout) == {"by": "launcher", "kind": "handing-off"}
    assert latch(state) is None  # a manual acceptance, say


@pytest.mark.parametrize("mode", ["default", "plan"])
def test_an_acceptance_by_hand_leaves_no_latch(
    shell: list[str], state: Path, tmp_path: Path, mode: str
) -> None:
    """Where Python fails as well: what the user approves by hand is none of plandock's."""
    stand_in(state, tmp_path, KILLED)
    done = run(shell, state, "accepted", accepted(mode))
    assert (done.returncode, done.stdout) == (0, b"")
    assert latch(state) is None


@pytest.mark.parametrize(
    "given",
    [
        accepted("auto", tool_use_id='"permission_mode":"default"'),
        accepted("somethingNew"),
        accepted("auto").replace(b'"tool_input":{}', b'"tool_input":{"permission_mode":"default"}'),
        accepted("auto").replace(b'"/c"', json.dumps('/"permission_mode":"default"').encode()),
        payload(),
    ],
)
def test_only_the_payloads_own_mode_says_by_hand(
    shell: list[str], state: Path, tmp_path: Path, given: bytes
) -> None:
    """A plan, a folder or the model's own words cannot say so; what is unknown is latched."""
    stand_in(state, tmp_path, KILLED)
    assert json.loads(run(shell, state, "accepted", given).stdout)["continue"] is False
    assert latch(state) is not None


@pytest.mark.parametrize(
    "session",
    ["../../evil", "*", "$(touch evil)", "`touch evil`", MINE.replace("a", "g"), MINE + "0",
     MINE[:-1], "", MINE[:-1] + "/", MINE[:-1] + "\u00e9", "; touch evil #", "."],
)  # fmt: skip
def test_no_other_id_makes_a_file(
    shell: list[str], state: Path, tmp_path: Path, session: str
) -> None:
    """The session's id becomes a file's name: nothing but 36 hexadecimal digits and dashes does."""
    stand_in(state, tmp_path, KILLED)
    before = sorted(p for p in tmp_path.rglob("*") if p.name != "cwd")
    run(shell, state, "accepted", accepted(session=session))
    run(shell, state, "proposed", payload(session))
    after = sorted(p for p in tmp_path.rglob("*") if p.name != "cwd")
    assert after == before


def test_an_id_in_capitals_is_latched(shell: list[str], state: Path, tmp_path: Path) -> None:
    """`claude --session-id` keeps them."""
    stand_in(state, tmp_path, KILLED)
    run(shell, state, "accepted", accepted(session=MINE.upper()))
    assert latch(state, MINE.upper()) is not None
    assert run(shell, state, "guard", payload(MINE.upper())).returncode == 2


@pytest.mark.parametrize("blank", [(", ", ": "), (" ,\t", "\n : \n\t ")])
def test_blanks_in_a_payload_hide_no_id(
    shell: list[str], state: Path, tmp_path: Path, blank: tuple[str, str]
) -> None:
    """Between the brace, the key, the colon and the value."""
    fields = {"session_id": MINE, "permission_mode": "auto", "tool_name": "ExitPlanMode"}
    text = json.dumps(fields, separators=blank).replace("{", "{ \t\n").encode()
    stand_in(state, tmp_path, KILLED)
    said = json.loads(run(shell, state, "accepted", text).stdout)["stopReason"]
    assert f"plandock run --session {MINE}" in said
    assert latch(state) is not None
    assert run(shell, state, "guard", text).returncode == 2


@pytest.mark.parametrize("given", [b"", b"{}", payload("a b"), b'{"session_id":""}'])
def test_no_words_with_an_empty_id(
    shell: list[str], state: Path, tmp_path: Path, given: bytes
) -> None:
    """What the user is told to type works without one."""
    stand_in(state, tmp_path, KILLED)
    said = json.loads(run(shell, state, "accepted", given).stdout)["stopReason"]
    assert said.endswith("plandock run --session last")
    done = run(shell, state, "proposed", given)
    assert (done.returncode, b"cannot write" in done.stderr) == (2, True)


@pytest.mark.parametrize("closed", ["proposed", "latch"])
def test_a_plan_that_cannot_be_marked_is_not_proposed(
    shell: list[str], state: Path, tmp_path: Path, closed: str
) -> None:
    """Where Python failed as well; its own refusal is passed on."""
    (state / closed).write_text("in the way of a folder")
    stand_in(state, tmp_path, KILLED)
    done = run(shell, state, "proposed", payload())
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"cannot write its state folder" in done.stderr
    assert b"plandock uninit" in done.stderr
    stand_in(state, tmp_path, "sys.exit(0)")
    assert run(shell, state, "proposed", payload()).returncode == 0


def test_a_latch_that_stands_is_kept(shell: list[str], state: Path, tmp_path: Path) -> None:
    """The launcher leaves one of its own only where there is none."""
    mark(state, "latch")
    stand_in(state, tmp_path, KILLED)
    run(shell, state, "accepted", accepted())
    assert latch(state) == {}


@pytest.mark.parametrize("code", BROKEN[:2])
def test_a_cleared_session_is_latched_where_python_fails(
    shell: list[str], state: Path, tmp_path: Path, code: str
) -> None:
    """From the proposal to the new session's first call, whatever becomes of Python."""
    stand_in(state, tmp_path, code)
    assert run(shell, state, "proposed", payload()).returncode == 0
    assert json.loads((state / "proposed" / MINE).read_bytes())["session"] == MINE
    assert run(shell, state, "cleared-end", payload()).returncode != 2
    done = run(shell, state, "cleared-start", payload(OTHER))
    assert "could not take" in json.loads(done.stdout)["systemMessage"]
    assert latch(state, OTHER) == {"by": "launcher", "kind": "cleared"}
    assert run(shell, state, "guard", payload(OTHER)).returncode == 2


@pytest.mark.parametrize("code", [KILLED, "import no_such_module", "sys.exit(77)"])
def test_a_latch_holds_where_python_fails(
    shell: list[str], state: Path, tmp_path: Path, code: str
) -> None:
    """Whatever kind of latch; but one in doubt holds up no other conversation."""
    (state / "latch").mkdir()
    (state / "latch" / MINE).write_text('{"kind": "handed-off", "run": "r1"}')
    stand_in(state, tmp_path, code)
    for given in (payload(), b'{"cwd":"/","session_id":"' + MINE.encode() + b'"}'):
        done = run(shell, state, "guard", given)
        assert (done.returncode, b"No tool may run here" in done.stderr) == (2, True)
    assert run(shell, state, "guard", b'{"session":1}').returncode == 0
    (state / "latch" / OTHER).write_text('{"kind": "copy", "at": 1.0}')
    assert run(shell, state, "guard", payload(OTHER)).returncode == 0


@pytest.mark.parametrize("missing", ["python", "entry"])
def test_a_broken_installation_lets_no_plan_through(
    shell: list[str], state: Path, tmp_path: Path, missing: str
) -> None:
    """With Python or plandock gone: stopped, latched, said; other sessions are let alone."""
    gone = tmp_path / "gone"
    write_launcher(
        str(gone) if missing == "python" else sys.executable,
        gone if missing == "entry" else tmp_path / "an entry's.py",
    )
    for word in ("guard", "proposed", "prompt", "cleared-end"):
        done = run(shell, state, word, payload())
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    answer = json.loads(run(shell, state, "accepted", accepted()).stdout)
    assert answer["continue"] is False
    assert "not installed" in answer["stopReason"]
    done = run(shell, state, "guard", payload())
    assert (done.returncode, b"not installed" in done.stderr) == (2, True)
    said = json.loads(run(shell, state, "prompt", payload()).stdout)["systemMessage"]
    # How to go on without plandock: the file is the one that it names.
    Path(said.rpartition("remove the file ")[2]).unlink()
    assert run(shell, state, "guard", payload()).returncode == 0
    assert run(shell, state, "guard", payload(OTHER)).returncode == 0


def test_a_launcher_that_is_gone_lets_no_plan_through(
    shell: list[str], state: Path, tmp_path: Path
) -> None:
    """In the user's own settings; in shared ones a colleague may do without plandock."""
    assert remove_launcher()
    command = next(h.command for h in hooks(state) if h.word == "accepted") + " # plandock"
    answers = [
        subprocess.run([*shell, "-c", command], input=x, capture_output=True, check=True).stdout
        for x in (accepted(), accepted("default"))
    ]
    assert json.loads(answers[0])["continue"] is False
    assert answers[1] == b""
    assert run(shell, state, "accepted", accepted()).stdout == b""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "plandock").write_text("#!/bin/sh\nkill -9 $$\n")
    (tools / "plandock").chmod(0o755)
    done = run(shell, state, "accepted", accepted(), f"{tools}:{os.environ['PATH']}")
    assert json.loads(done.stdout)["continue"] is False


def run_own(
    shell: list[str], state: Path, word: str, given: bytes, path: str = ""
) -> subprocess.CompletedProcess[bytes]:
    """Run a command of one user's own settings; with no program on PATH."""
    command = next(h.command for h in hooks(state) if h.word == word) + " # plandock"
    return subprocess.run(
        [*shell, "-c", command], input=given, capture_output=True, check=False,
        env={"PATH": path or str(state)},
    )  # fmt: skip


@pytest.mark.parametrize("gone", ["launcher", "emptied launcher", "state folder"])
def test_without_a_launcher_no_plan_is_proposed(shell: list[str], state: Path, gone: str) -> None:
    """After an acceptance with cleared context nothing comes that could be answered; one that comes
    all the same is."""
    (state / "hook").write_text("")
    if gone != "emptied launcher":
        assert remove_launcher()
    if gone == "state folder":
        state.rmdir()
    done = run_own(shell, state, "proposed", payload())
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"launcher is gone" in done.stderr
    assert b"plandock init" in done.stderr
    assert b"plandock uninit" in done.stderr
    done = run_own(shell, state, "accepted", accepted())
    assert json.loads(done.stdout)["continue"] is False
    for word in ("guard", "prompt", "cleared-end", "cleared-start", "started"):
        done = run_own(shell, state, word, payload())
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_latch_holds_without_a_launcher(shell: list[str], state: Path) -> None:
    """Its own conversation alone, by the payload's own id, and not where it is in doubt."""
    assert remove_launcher()
    mark(state, "latch")
    tool = {"tool_input": {"session_id": MINE}}
    texts = [(payload(), 2), (payload(transcript_path=f"/{OTHER}.jsonl"), 2),
             (json.dumps({"session_id": MINE, "cwd": "/"}).encode(), 2),
             (payload(OTHER, transcript_path=f"/{MINE}.jsonl"), 0),
             (payload(OTHER, tool_name="x", **tool), 0), (b"", 0), (b"{}", 0)]  # fmt: skip
    for text, code in texts:
        done = run_own(shell, state, "guard", text + b"\n")
        assert (done.returncode, b"launcher is gone" in done.stderr) == (code, code == 2)
    (state / "latch" / MINE).write_text('{"kind": "copy", "at": 1.0}')
    assert run_own(shell, state, "guard", payload()).returncode == 0


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
