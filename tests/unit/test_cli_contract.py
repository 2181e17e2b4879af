"""What scripts rely on: JSON keys, exit codes, and text that is safe on a terminal."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from plandock import paths
from plandock.runs import alive, marks
from plandock.runs.model import Billing, Run, RunId, State, Usage
from plandock.runs.store import Store
from tests.support.commands import CommandServer
from tests.support.repository import Repository

Plandock = Callable[..., subprocess.CompletedProcess[str]]

# shared/design.md, section 4: additions are free, changes are not.
RUN_KEYS = {
    "id", "state", "reason", "repo", "cwd", "branch", "base", "snapshot", "head", "commits",
    "plan_title", "session_id", "box_session_id", "engine", "image", "cli_version", "billing",
    "created_at", "started_at", "ended_at", "waiting_until", "turns", "usage", "denied",
    "flagged_files",
}  # fmt: skip
BILLING_KEYS = {"source", "api_key_source", "subscription"}
USAGE_KEYS = {"input_tokens", "output_tokens", "cache_read_tokens", "cost_usd_equivalent"}
HOSTILE = "\x1b]0;owned\x07\x1b[2Jred\x1b[31m\u202etxt\x9b5n"


def has_no_control(text: str) -> bool:
    """Whether nothing in the text would steer a terminal."""
    return not any(c in text for c in ("\x1b", "\x07", "\x9b", "\u202e"))


@pytest.fixture
def plandock(repo: Repository, commands: CommandServer) -> Plandock:
    """Run the command line in the repository."""

    def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return commands.run_text(*words, cwd=repo.root, env=os.environ, stdin=stdin)

    return run


@pytest.fixture
def add(repo: Repository) -> Callable[..., Run]:
    """Record a run by hand."""

    # One that goes is driven by this very process: nobody takes it for a run left behind.
    pid, started = alive.mine()

    def record(run_id: str, state: State = State.DONE, **values: Any) -> Run:
        driven = {} if state.final else {"supervisor_pid": pid, "supervisor_started": started}
        made = Run(
            id=RunId(run_id),
            state=state,
            repo=str(repo.root),
            cwd=str(repo.root),
            handoff_key=run_id,
            **{
                "base": repo.head(),
                "created_at": "2026-01-02T03:04:05.000Z",
                "started_at": "2026-01-02T03:04:06.000Z",
                "ended_at": "2026-01-02T03:05:06.500Z" if state.final else "",
                "plan_title": "Greet in French",
                "billing": Billing("subscription", "none", "max"),
                "usage": Usage(10, 20, 30, 0.5),
                **driven,
                **values,
            },
        )
        branch = values.get("branch", "feature/auto")
        with Store() as store:
            stored, _ = store.add(made, name_branch=lambda _: branch)
        paths.run_dir(run_id).mkdir(parents=True)
        return stored

    return record


@pytest.fixture
def add_with_work(repo: Repository, add: Callable[..., Run]) -> Callable[..., Run]:
    """Record a finished run whose branch holds one commit with the given files."""

    def record(run_id: str, files: dict[str, str], **values: Any) -> Run:
        base = repo.head()
        repo.git("switch", "-q", "-c", f"work/{run_id}")
        head = repo.commit(files, "The agent's work")
        repo.git("switch", "-q", "main")
        values = {"branch": f"work/{run_id}", "base": base, "snapshot": base, **values}
        return add(run_id, head=head, commits=1, **values)

    return record


def test_show_json_has_every_key_of_the_contract(plandock, add):
    """Scripts find each name where the contract says; empty times are null, times are UTC."""
    add("r222", State.RUNNING)
    data = json.loads(plandock("show", "r222", "--json").stdout)
    assert set(data) >= RUN_KEYS
    assert set(data["billing"]) >= BILLING_KEYS
    assert set(data["usage"]) >= USAGE_KEYS
    assert data["state"] == "running"
    assert data["ended_at"] is None
    assert data["waiting_until"] is None
    assert data["created_at"].endswith("Z")
    assert data["denied"] == []


def test_ps_json_is_a_list_of_runs_newest_first(plandock, add):
    """Every run, ended or not, as `show --json` gives it."""
    add("r222", created_at="2026-01-01T00:00:00.000Z")
    add("r333", State.WAITING, reason="usage_limit", created_at="2026-01-02T00:00:00.000Z")
    rows = json.loads(plandock("ps", "--json").stdout)
    assert [row["id"] for row in rows] == ["r333", "r222"]
    assert rows[0] == json.loads(plandock("show", "r333", "--json").stdout)
    assert rows[0]["reason"] == "usage_limit"


def test_ps_without_runs(plandock):
    """An empty store is an empty list, and for people the next step."""
    assert json.loads(plandock("ps", "--json").stdout) == []
    assert "accept a plan" in plandock("ps").stdout


def test_ps_for_people_is_safe_on_a_terminal(plandock, add):
    """A plan's title may hold anything; the table holds no escape sequence."""
    add("r222", plan_title=HOSTILE, branch="[red]not markup[/red]")
    done = plandock("ps", "--all")
    assert done.returncode == 0
    assert "r222" in done.stdout
    assert has_no_control(done.stdout)


def test_ps_on_eighty_columns_is_legible_while_a_run_waits(plandock, add):
    """Plan and state stand in words, not in a letter a line; the state says until when."""
    until = "2026-01-02T03:04:05.000Z"
    add(
        "r222",
        State.WAITING,
        reason="usage_limit",
        waiting_until=until,
        branch="feature/auto",
        plan_title="Add greetings",
    )
    shown = plandock("ps").stdout
    for words in ("waiting (usage_limit)", "until 2026-01-02 03:04 UTC", "feature/", "greetings"):
        assert words in shown, shown


def test_last_and_prefixes_name_runs(plandock, add):
    """`last` is the newest, a beginning does where only one run begins so."""
    add("r234", created_at="2026-01-01T00:00:00.000Z")
    add("r256", created_at="2026-01-02T00:00:00.000Z")
    assert json.loads(plandock("show", "last", "--json").stdout)["id"] == "r256"
    assert json.loads(plandock("show", "r23", "--json").stdout)["id"] == "r234"
    ambiguous = plandock("show", "r2", "--json")
    assert ambiguous.returncode == 2
    assert "r234" in ambiguous.stderr
    assert "r256" in ambiguous.stderr


@pytest.mark.parametrize(
    "command", ["show", "logs", "wait", "receipt", "diff", "merge", "apply", "drop"]
)
@pytest.mark.parametrize("name", ["r999", "last", ""])
def test_an_unknown_run_is_an_expected_failure(command, name, plandock):
    """One line and one hint, exit code 1, never a traceback."""
    done = plandock(command, name)
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("  next: ")


def test_words_that_make_no_sense_are_usage_errors(plandock):
    """Unknown commands and options, and missing arguments, answer 2."""
    for words in (["frobnicate"], ["ps", "--no-such"], ["show"], ["run"]):
        assert plandock(*words).returncode == 2, words


@pytest.mark.parametrize(
    ("state", "exit_code", "expected"),
    [
        (State.DONE, 0, 0),
        (State.FAILED, 0, 10),
        (State.STOPPED, 10, 10),
        (State.FAILED, 20, 20),
        (State.FAILED, 21, 21),
        (State.FAILED, 22, 22),
        (State.FAILED, 23, 23),
    ],
)
def test_wait_answers_how_the_run_ended(state, exit_code, expected, plandock, add):
    """0 when done, the cause's own code where it has one, 10 otherwise."""
    add("r222", state, exit_code=exit_code)
    assert plandock("wait", "r222").returncode == expected
    as_json = plandock("wait", "r222", "--json")
    assert as_json.returncode == expected
    assert json.loads(as_json.stdout)["state"] == str(state)


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.WAITING])
def test_wait_gives_up_with_75(state, plandock, add):
    """A run that is still going when the time is over is busy, not failed."""
    add("r222", state)
    assert plandock("wait", "r222", "--timeout", "0.1").returncode == 75


def test_receipt_json_says_who_paid_and_what_next(plandock, add):
    """The run's own keys, and the sentences that matter."""
    add("r222", commits=2, upstream="http://127.0.0.1:9")
    data = json.loads(plandock("receipt", "r222", "--json").stdout)
    assert set(data) >= RUN_KEYS
    assert data["payer"].startswith("nobody: a stand-in answered")
    assert data["stand_in"] == "http://127.0.0.1:9"
    add("r223", commits=2)
    real = json.loads(plandock("receipt", "r223", "--json").stdout)
    assert "subscription (max)" in real["payer"]
    assert data["duration_s"] == 60.5
    assert "plandock merge r222" in data["next"]


def test_receipt_does_not_offer_a_conversation_that_is_not_there(plandock, add):
    """`open` works once the run has ended; what comes next says so only then."""
    add("r222", State.RUNNING, box_session_id="1b4e28ba-2fa1-41d2-883f-0016d3cca427")
    data = json.loads(plandock("receipt", "r222", "--json").stdout)
    assert not any("open" in step for step in data["next"])


def test_receipt_and_show_for_people_are_safe_on_a_terminal(plandock, add):
    """What came out of the box is shown without its escape sequences, on one line each."""
    add(
        "r222",
        outcome=HOSTILE,
        message=HOSTILE,
        flagged_files=[HOSTILE + "\nnext  rm -rf /"],
        denied=[{"tool": HOSTILE, "input": HOSTILE}],
        notes=[HOSTILE],
        egress=[{"decision": "refused", "target": HOSTILE, "why": HOSTILE, "count": 1}],
    )
    for command in ("receipt", "show"):
        done = plandock(command, "r222")
        assert done.returncode == 0, done.stderr
        assert has_no_control(done.stdout)
        assert not any(line.startswith("next  rm") for line in done.stdout.splitlines())


def recorded(run: Run, *messages: object) -> None:
    """Write the box's output of a run: JSON objects, or bytes as they are."""
    lines = [m if isinstance(m, bytes) else json.dumps(m).encode() for m in messages]
    (paths.run_dir(run.id) / "events.jsonl").write_bytes(b"".join(x + b"\n" for x in lines))


def test_logs_show_a_recorded_run_without_its_escape_sequences(plandock, add):
    """Texts, tool calls and the end of it; broken lines are passed over."""
    content = [
        {"type": "text", "text": "Bonjour " + HOSTILE},
        {"type": "tool_use", "name": "Bash" + HOSTILE, "input": {"command": "ls\n" + HOSTILE}},
        {"type": "tool_use", "name": "Odd", "input": ["not an object"]},
        "not a block",
    ]
    recorded(
        add("r222"),
        {"type": "system", "subtype": "init"},
        {"type": "assistant", "message": {"content": content}},
        {"type": "assistant", "message": "not an object"},
        {"type": "plandock", "event": "setup-ended", "output": HOSTILE},
        b'{"type": "assist',
        b"[" * 100_000,
        b"\xff\xfe",
        {"type": "result", "subtype": "success" + HOSTILE},
    )
    done = plandock("logs", "r222")
    assert done.returncode == 0, done.stderr
    assert "Bonjour" in done.stdout
    assert "→ Bash" in done.stdout
    assert done.stdout.rstrip().splitlines()[-1].startswith("= success")
    assert has_no_control(done.stdout + done.stderr)


def test_logs_json_prints_the_messages_as_they_are(plandock, add):
    """One JSON object per line, for scripts."""
    recorded(add("r222"), {"type": "result", "subtype": "success"})
    assert json.loads(plandock("logs", "r222", "--json").stdout)["type"] == "result"


def test_logs_of_the_supervisor_are_safe_on_a_terminal(plandock, add):
    """The supervisor's log carries words of the engine and of a build."""
    run = add("r222")
    (paths.run_dir(run.id) / "supervisor.log").write_text(f"building {HOSTILE}\n")
    done = plandock("logs", "r222", "--supervisor")
    assert "building" in done.stdout
    assert has_no_control(done.stdout)


def test_logs_follow_ends_with_the_run(plandock, add):
    """Following a run that has ended shows it and returns."""
    recorded(add("r222"), {"type": "result", "subtype": "success"})
    assert "= success" in plandock("logs", "r222", "-f").stdout


def test_diff_shows_the_work(plandock, add_with_work):
    """What the agent changed since the snapshot."""
    add_with_work("r222", {"bonjour.txt": "salut\n"})
    assert "+salut" in plandock("diff", "r222").stdout


def test_merge_takes_the_work(plandock, repo, add_with_work):
    """The branch's commit arrives on the branch that the user is on."""
    run = add_with_work("r222", {"bonjour.txt": "salut\n"})
    done = plandock("merge", "r222")
    assert done.returncode == 0, done.stderr
    assert repo.head() == run.head


def test_merge_asks_when_files_are_flagged(plandock, repo, add_with_work):
    """Nobody there or no: nothing is merged; yes: it is."""
    run = add_with_work("r222", {"Makefile": "all:\n"}, flagged_files=["Makefile"])
    for answer in ("", "n\n"):
        done = plandock("merge", "r222", stdin=answer)
        assert done.returncode == 1
        assert "flagged: Makefile" in done.stderr
        assert "--yes" in done.stderr
        assert repo.head() == run.base
    assert plandock("merge", "r222", stdin="y\n").returncode == 0
    assert repo.head() == run.head


def test_merge_that_conflicts_changes_nothing(plandock, repo, add_with_work):
    """A conflict is undone and named; the way by hand is the hint."""
    add_with_work("r222", {"README.md": "theirs\n"})
    mine = repo.commit({"README.md": "mine\n"})
    done = plandock("merge", "r222")
    assert done.returncode == 1
    assert "git merge work/r222" in done.stderr
    assert repo.head() == mine
    assert repo.git("status", "--porcelain") == ""


def test_merge_leaves_a_merge_of_the_users_own_alone(plandock, repo, add_with_work):
    """A merge that the user has half resolved is not thrown away."""
    add_with_work("r222", {"README.md": "theirs\n"})
    repo.commit({"README.md": "mine\n"})
    subprocess.run(
        ["git", "-C", str(repo.root), "merge", "-q", "work/r222"], capture_output=True, check=False
    )
    repo.write({"README.md": "resolved by hand\n"})
    done = plandock("merge", "r222")
    assert done.returncode == 1
    assert (repo.root / "README.md").read_text() == "resolved by hand\n"
    assert repo.git("rev-parse", "--verify", "MERGE_HEAD")


def test_merge_of_nothing_is_an_expected_failure(plandock, add):
    """A run without commits has nothing to merge."""
    add("r222", commits=0)
    assert plandock("merge", "r222").returncode == 1


@pytest.mark.parametrize("command", ["diff", "merge", "apply"])
def test_work_that_is_not_there_any_more_is_an_expected_failure(
    command, plandock, repo, add_with_work
):
    """One line and one hint that names the copy, be the commits gone or the whole repository."""
    run = add_with_work("r7k2", {"new.py": "x = 1\n"})
    with Store() as store:
        store.change(run.id, head="1" * 40)
    gone = plandock(command, "r7k2")
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "commits of r7k2 are not in" in gone.stderr
    assert "work.bundle" in gone.stderr
    with Store() as store:
        store.change(run.id, repo=str(repo.root / "moved"))
    gone = plandock(command, "r7k2")
    assert gone.returncode == 1
    assert "is not at" in gone.stderr
    assert "work.bundle" in gone.stderr


def test_drop_forgets_the_run_and_leaves_the_branch(plandock, repo, add_with_work):
    """Folder, record and hidden refs go; the branch stays."""
    run = add_with_work("r222", {"bonjour.txt": "salut\n"})
    recorded(run, {"type": "result"})
    (paths.run_dir(run.id) / "deep").mkdir()
    repo.git("update-ref", "refs/plandock/runs/r222/snapshot", run.base)
    repo.git("update-ref", "refs/plandock/runs/r333/snapshot", run.base)
    assert plandock("drop", "r222").returncode == 0
    assert not paths.run_dir("r222").exists()
    assert plandock("show", "r222").returncode == 1
    refs = repo.git("for-each-ref", "--format=%(refname)").splitlines()
    assert "refs/heads/work/r222" in refs
    assert "refs/plandock/runs/r222/snapshot" not in refs
    assert "refs/plandock/runs/r333/snapshot" in refs


def test_drop_refuses_a_run_that_is_going(plandock, add):
    """Busy, with the command that ends it."""
    add("r222", State.RUNNING)
    done = plandock("drop", "r222", "--yes")
    assert done.returncode == 75
    assert "plandock stop r222" in done.stderr
    assert paths.run_dir("r222").is_dir()


def test_drop_asks_before_the_last_copy_goes(plandock, repo, add_with_work):
    """Where the branch is gone, the hidden refs are all that is left of the work."""
    run = add_with_work("r222", {"bonjour.txt": "salut\n"})
    repo.git("update-ref", "refs/plandock/runs/r222/head", run.head)
    repo.git("branch", "-q", "-D", run.branch)
    assert plandock("drop", "r222").returncode == 1
    assert repo.git("rev-parse", "refs/plandock/runs/r222/head") == run.head
    assert plandock("drop", "r222", "--yes").returncode == 0


def test_config_json_says_each_value_and_its_origin(plandock, repo):
    """Value, origin, and what the repository asked for in vain."""
    repo.write({".plandock.toml": 'max_turns = 7\nbilling = "api-key"\n'})
    rows = {row["key"]: row for row in json.loads(plandock("config", "--json").stdout)}
    assert rows["max_turns"]["value"] == 7
    assert rows["max_turns"]["origin"].endswith(".plandock.toml")
    assert rows["branch"] == rows["branch"] | {"value": "feature/auto", "origin": "default"}
    assert rows["billing"]["value"] == "subscription"
    assert rows["billing"]["refused"]


def test_config_with_an_unknown_key_is_a_usage_error(plandock, repo):
    """A misspelt setting is refused, with the nearest one named."""
    repo.write({".plandock.toml": "max_turn = 7\n"})
    done = plandock("config")
    assert done.returncode == 2
    assert "max_turns" in done.stderr


def test_recover_json_has_four_keys_and_exit_code_0(plandock, add):
    """A run that nobody drives is named; a dry run leaves it to whoever asks in earnest."""
    add("r222", State.RUNNING, staged=True, supervisor_pid=0)
    done = plandock("recover", "--dry-run", "--json")
    assert done.returncode == 0
    found = [row for row in json.loads(done.stdout) if row["run"] == "r222"]
    assert [set(row) for row in found] == [{"run", "state", "found", "action"}]
    assert found[0]["state"] == "running"


def test_unlatch_frees_the_conversations_of_one_run_alone(plandock, add):
    """Its own and a copy of it; another run's latch stands, and twice is well."""
    add("r222")
    for session, run in (("s1", "r222"), ("copy-of-s1", "r222"), ("s2", "r333")):
        marks.put(paths.latch_dir(), session, {"kind": "handed-off", "run": run})
    done = plandock("unlatch", "r222", "--json")
    assert json.loads(done.stdout) == {"run": "r222", "unlatched": ["copy-of-s1", "s1"]}
    assert [x.name for x in paths.latch_dir().iterdir()] == ["s2"]
    assert "is not latched" in plandock("unlatch", "r222").stdout
    assert plandock("unlatch", "r999").returncode == 1
    assert "may use its tools" in plandock("unlatch", "s2").stdout
    assert list(paths.latch_dir().iterdir()) == []


def test_unlatch_frees_a_conversation_whose_hand_off_failed(plandock, add):
    """Its latch names no run: the conversation of the run that was made later is the same."""
    add("r222", session_id="s1")
    marks.put(paths.latch_dir(), "s1", {"kind": "refused"})
    assert plandock("unlatch", "r222").returncode == 0
    assert list(paths.latch_dir().iterdir()) == []
