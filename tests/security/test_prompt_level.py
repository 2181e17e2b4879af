"""Plans, folders, names and payloads are words: nothing of them is run, and none is an option.

Each payload would run the program `owned` if a shell read it or a program took it for an option;
the positive controls show that it then does.  Everything up to the engine is the real thing: the
command line, the hook's process, git; at the end of the file whole runs in a container.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from plandock.box import launch
from plandock.claude.login import Login
from plandock.claude.redact import Secret
from plandock.engines.arguments import create_arguments
from plandock.engines.dialect import Dialect
from plandock.runs.model import Run
from plandock.runs.store import Store
from plandock.settings.keys import Settings
from plandock.supervisor.freezing import freeze
from plandock.supervisor.order import start_order
from plandock.workspace import branch
from tests.support import hooks, prompts
from tests.support.commands import CommandServer
from tests.support.prompts import FOLDERS, IDENTITIES, PLANS, SESSIONS, SHELL_PLANS, Stage
from tests.support.repository import Repository, make_repository

TEMPLATES = ("{slug}", "auto/{slug}", "x-{slug}-{run}")
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of plandock with a supervisor that only notes that it was started."""
    return hooks.copy_package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def commands(package: Path) -> Iterator[CommandServer]:
    """That copy's command line."""
    with closing(CommandServer(package.parent, os.environ)) as server:
        yield server


@pytest.fixture(scope="module")
def ping() -> Iterator[Path]:
    """The socket of what answers for docker."""
    with hooks.fake_docker_socket() as path:
        yield path


@pytest.fixture
def stage(
    tmp_path: Path,
    repo: Repository,
    home: Path,
    package: Path,
    commands: CommandServer,
    ping: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stage]:
    """A place where hand-offs succeed, for this process too; the trap was not run at the end."""
    world = hooks.make_world(tmp_path / "tools", repo, home, package, ping)
    made = Stage.make(world, commands, tmp_path)
    monkeypatch.setenv("PATH", world.env["PATH"])
    yield made
    world.wait_for_supervisors()


def freeze_run(stage: Stage, run: Run) -> Run:
    """The supervisor's own first step, with real git.

    As by hand: nobody writes the approval into a transcript that would be waited for.
    """
    with Store(stage.world.state / "plandock.db") as store:
        return freeze(store, store.change(run.id, trigger="manual"))


def the_run(stage: Stage) -> Run:
    """The only run that there is."""
    (run,) = stage.world.runs()
    return run


def vectors(run: Run) -> list[list[str]]:
    """What the engines are told of a run's containers."""
    chosen = Settings.from_dict(run.settings)
    specs = [
        launch.stage_spec(run, "plandock-box:1", "sha1"),
        launch.box_spec(run, "plandock-box:1", chosen),
        launch.gateway_spec(run, "plandock-box:1", chosen, {}),
        launch.reader_spec(run, "plandock-box:1", "harvest", ("python3",)),
    ]
    told = [create_arguments(s, Dialect(e)) for s in specs for e in ("docker", "podman")]
    return [[_without_record(word) for word in words] for words in told]


def _without_record(word: str) -> str:
    """A word for an engine; of the label with a run's record only that it is letters and digits.

    That record is what adopts a run, so the folder and the branch do stand in it.
    """
    name, _, value = word.partition("=")
    if name != launch.RECORD:
        return word
    assert re.fullmatch("[A-Za-z0-9+/]+=*", value)
    return f"{name}=RECORD"


def cli_words(run: Run, who: tuple[str, str] = ("Ada", "ada@example.invalid")) -> list[str]:
    """The arguments of the box's CLI, at its start and when it goes on; run-made ids left out."""
    login = Login("file", Secret("sk-made-up"), None, "max", ())
    order = start_order(run, Settings.from_dict(run.settings), login, who, {})
    words = [*order["arguments"], *order["again"]]
    return ["ID" if word == run.box_session_id else word for word in words]


def nothing_steers(stage: Stage, run: Run) -> None:
    """No listing lets through what would steer a terminal."""
    for words in (["ps"], ["show", run.id]):
        done = stage.plandock(*words)
        assert done.returncode == 0, done.stderr
        assert prompts.steering((done.stdout + done.stderr).decode()) == [], words


def checked_branch(stage: Stage, run: Run) -> None:
    """The run's branch is one to git, and has no way up and no option in it."""
    assert branch.invalid_because(run.branch) == ""
    stage.world.repo.git("check-ref-format", "--branch", run.branch)
    assert not run.branch.startswith("-")
    assert prompts.steering(run.branch) == []


def nothing_was_taken_for_more(stage: Stage, words: str) -> None:
    """The trap was not run, and no call of git so much as carried the words."""
    assert not stage.owned
    calls = stage.git_calls()
    assert len(calls) > 3
    assert [call for call in calls if any(words in word for word in call)] == []


@pytest.mark.parametrize("way", ["run", "hook"])
@pytest.mark.parametrize("name", PLANS)
def test_nothing_of_a_plan_is_run_or_taken_for_an_option(
    stage: Stage, tmp_path: Path, name: str, way: str
) -> None:
    """From file, standard input and hook: kept word for word, and the box's CLI is told no more.

    The branch template takes the title in, git and engines are never given the words, and every
    listing is fit for a terminal.
    """
    place = list(PLANS).index(name)
    plan, template = PLANS[name], TEMPLATES[place % len(TEMPLATES)]
    if way == "hook":
        stage.world.env["PLANDOCK_BRANCH"] = template
        answer = stage.world.accept(tool_response={"plan": plan})
        assert the_run(stage).id in answer.stop
        assert prompts.steering(answer.stop) == []
    else:
        file = tmp_path / "-plan; owned"
        file.write_bytes(plan.encode())
        given = ["--plan", "-" if place % 2 else str(file), "--branch", template]
        done = stage.plandock("run", *given, stdin=plan.encode() if place % 2 else b"")
        assert done.returncode == 0, done.stderr
        assert prompts.steering(done.stdout.decode()) == []
    run = the_run(stage)
    kept = (stage.world.state / "runs" / run.id / "plan.md").read_bytes().decode()
    assert kept.strip() == plan.strip()
    assert prompts.steering(run.plan_title) == []
    frozen = freeze_run(stage, run)
    nothing_steers(stage, frozen)
    nothing_was_taken_for_more(stage, "owned" if "owned" in plan else plan.strip())
    plain = frozen.__class__(**{**frozen.__dict__, "plan_title": "", "branch": "feature/auto"})
    assert cli_words(frozen) == cli_words(plain)
    assert vectors(frozen) == vectors(plain)
    checked_branch(stage, run)


@pytest.mark.parametrize("name", SHELL_PLANS)
def test_positive_control_a_shell_that_reads_such_a_plan_runs_it(stage: Stage, name: str) -> None:
    """The same words, given to a shell."""
    assert not stage.owned
    stage.shell(SHELL_PLANS[name])
    assert stage.owned


def test_positive_control_a_git_that_takes_the_words_for_an_option_runs_them(stage: Stage) -> None:
    """The first line of the plan of options, as a word of `git ls-remote`; and it is noted."""
    option = PLANS["options"].split("\n")[0]
    subprocess.run(
        ["git", "ls-remote", option, "."],
        cwd=stage.world.repo.root,
        capture_output=True,
        check=False,
    )
    assert stage.owned
    assert ["ls-remote", option, "."] in stage.git_calls()


@pytest.mark.parametrize("way", ["file", "stdin"])
def test_a_plan_above_the_bound_is_refused(stage: Stage, tmp_path: Path, way: str) -> None:
    """One byte above 1 MiB: a usage error, no run."""
    plan = b"#" * (MIB + 1)
    (tmp_path / "plan").write_bytes(plan)
    place = "-" if way == "stdin" else str(tmp_path / "plan")
    done = stage.plandock("run", "--plan", place, stdin=plan if way == "stdin" else b"")
    assert (done.returncode, stage.world.runs()) == (2, [])


def test_an_accepted_plan_above_the_bound_stops_the_turn_and_is_not_handed_off(
    stage: Stage,
) -> None:
    """The hook answers with a reason, and starts nothing."""
    answer = stage.world.accept(
        tool_response={"plan": "$(owned)" * (MIB // 8) + "#"}, tool_input={}
    )
    assert "could not hand the plan off" in answer.stop
    assert (stage.world.runs(), stage.owned) == ([], False)


@pytest.mark.parametrize("way", ["run", "hook"])
@pytest.mark.parametrize("name", FOLDERS)
def test_nothing_of_a_folders_name_is_run_or_taken_for_an_option(
    stage: Stage, tmp_path: Path, name: str, way: str
) -> None:
    """As the repository's name and as that of the folder in it where the plan was accepted."""
    there = make_repository(tmp_path / name)
    there.write({f"{name}/x.txt": "x\n"})
    cwd = there.root / name
    if way == "hook":
        assert "handed off" in stage.world.accept(cwd=str(cwd)).stop
    else:
        done = stage.plandock("run", "--plan", "-", cwd=cwd, stdin=b"# A plan\n")
        assert done.returncode == 0, done.stderr
    run = the_run(stage)
    assert (run.repo, run.cwd) == (str(there.root), str(cwd))
    frozen = freeze_run(stage, run)
    nothing_steers(stage, frozen)
    assert not stage.owned
    for call in stage.git_calls():
        # Only ever as a whole path, below `-C` or as the word of its own that it is.
        assert [w for w in call if name in w and not w.startswith("/")] == []
    assert there.git("show", f"{frozen.snapshot}:{name}/x.txt") == "x"
    plain = frozen.__class__(**{**frozen.__dict__, "repo": "/home/plain", "cwd": "/home/plain"})
    assert cli_words(frozen) == cli_words(plain)
    for words, usual in zip(vectors(frozen), vectors(plain), strict=True):
        assert len(words) == len(usual)
        for mine, theirs in zip(words, usual, strict=True):
            if mine != theirs:
                _only_the_place_differs(mine, theirs, frozen.repo)


def _only_the_place_differs(mine: str, usual: str, repo: str) -> None:
    """One word for an engine: a mount whose destination alone is another, or a variable's text."""
    if usual.startswith("type=volume"):
        fields = next(csv.reader([mine]))
        assert [f for f in fields if not f.startswith("destination=")] == [
            f.replace(launch.Names("", "/home/plain").mirror, launch.Names("", repo).mirror)
            for f in next(csv.reader([usual]))
            if not f.startswith("destination=")
        ]
        assert {f for f in fields if f.startswith("destination=")} <= {
            f"destination={place}" for place in (repo, launch.MIRROR)
        }
    else:
        assert mine.startswith("PLANDOCK_VOLUMES=")
        assert json.loads(mine.partition("=")[2])[0] == repo


@pytest.mark.parametrize("name", IDENTITIES)
def test_nothing_of_the_users_name_is_run_or_adds_a_line_to_a_commit(
    stage: Stage, name: str
) -> None:
    """The commit of the uncommitted work has the header of any other, whatever git is told."""
    who, mail = IDENTITIES[name]
    repo = stage.world.repo
    repo.git("config", "user.name", who)
    repo.git("config", "user.email", mail)
    repo.write({"mine.txt": "uncommitted\n"})
    stage.calls.unlink(missing_ok=True)
    assert stage.plandock("run", "--plan", "-", stdin=b"# A plan\n").returncode == 0
    frozen = freeze_run(stage, the_run(stage))
    assert frozen.snapshot != frozen.base
    header = repo.git("cat-file", "commit", frozen.snapshot).split("\n\n")[0]
    assert [line.split(" ")[0] for line in header.splitlines()] == [
        "tree",
        "parent",
        "author",
        "committer",
    ]
    nothing_was_taken_for_more(stage, who)
    nothing_steers(stage, frozen)
    assert cli_words(frozen, (who, mail)) == cli_words(frozen)


@pytest.mark.parametrize("session", SESSIONS)
def test_a_session_that_is_a_path_or_an_option_gets_nowhere(stage: Stage, session: str) -> None:
    """In a payload, as `--session` and as RUN: no run, no file beside the state, no escape."""
    before = {p for p in stage.world.home.rglob("*") if stage.world.state not in p.parents}
    assert stage.world.accept(session_id=session).silent
    if "\0" not in session:
        for words in (
            ["run", f"--session={session}"],
            ["show", "--", session],
        ):
            done = stage.plandock(*words)
            assert done.returncode in (1, 2), words
            assert done.stderr.count(b"\n") < 6
            assert b"Traceback" not in done.stderr
            assert prompts.steering(done.stderr.decode()) == []
    assert (stage.world.runs(), stage.world.marks(), stage.owned) == ([], set(), False)
    after = {p for p in stage.world.home.rglob("*") if stage.world.state not in p.parents}
    assert after - before <= {stage.world.state, stage.world.state.parent} | set(
        stage.world.state.parents
    )


@pytest.mark.parametrize("stem", ["--settings=owned", "-x", "$(owned)", "x; owned"])
def test_a_transcripts_name_never_becomes_an_option_of_the_boxs_cli(
    stage: Stage, tmp_path: Path, stem: str
) -> None:
    """The conversation counts as missing, and the run starts anew from its plan."""
    transcript = tmp_path / f"{stem}.jsonl"
    transcript.write_text('{"type":"user"}\n')
    assert "handed off" in stage.world.accept(transcript_path=str(transcript)).stop
    frozen = freeze_run(stage, the_run(stage))
    assert frozen.fresh
    assert not [word for word in cli_words(frozen) if stem in word]
    assert not stage.owned


def test_positive_control_a_transcript_of_a_sessions_name_does_go_along(
    stage: Stage, tmp_path: Path
) -> None:
    """The same, with the name of a real one."""
    transcript = tmp_path / "0d1bd3f6-1b1c-4c8e-9d59-3f3f1f3c2f11.jsonl"
    transcript.write_text('{"type":"user"}\n')
    assert "handed off" in stage.world.accept(transcript_path=str(transcript)).stop
    frozen = freeze_run(stage, the_run(stage))
    assert not frozen.fresh
    pairs = list(itertools.pairwise(cli_words(frozen)))
    assert ("--resume", transcript.stem) in pairs


@pytest.mark.parametrize("field", ["tool_use_id", "prompt_id", "cwd", "permission_mode"])
@pytest.mark.parametrize("text", ["$(owned)", "../../owned", "--exec=owned", "\x1b[2J\n\0"])
def test_other_fields_of_a_payload_are_words_too(stage: Stage, field: str, text: str) -> None:
    """Whatever stands in them: an answer, at most a run of this repository, and nothing is run."""
    answer = stage.world.accept(**{field: text})
    assert answer.code == 0, answer.err
    assert prompts.steering(answer.out.encode().decode("unicode_escape")) == []
    assert {run.repo for run in stage.world.runs()} <= {str(stage.world.repo.root)}
    assert not stage.owned
    assert not [c for c in stage.git_calls() if any(w.startswith("--exec=") for w in c)]
