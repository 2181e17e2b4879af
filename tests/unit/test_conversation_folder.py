"""Which folder a conversation works in, by what Claude Code was measured to say of it.

Each case is one that was driven with the real 2.1.197 and 2.1.332 (docs/folders.md).
"""

import json
import subprocess
from pathlib import Path

import pytest

from plandock import paths
from plandock.errors import RepositoryError
from plandock.hook import added_folders, conversation_folder
from tests.support import hooks
from tests.support.repository import Repository, make_repository


@pytest.fixture
def folders(tmp_path):
    """Two repositories, `app` with a subfolder, and `lib`."""
    app, lib = make_repository(tmp_path / "app").root, make_repository(tmp_path / "lib").root
    (app / "packages" / "api").mkdir(parents=True)
    return app, lib, app / "packages" / "api"


@pytest.fixture
def keep(tmp_path):
    """A factory of transcripts: kept where the conversation's folder says, with such records."""

    def make(folder, *records):
        place = tmp_path / "config" / "projects" / paths.project_key(str(folder))
        place.mkdir(parents=True, exist_ok=True)
        lines = [r if isinstance(r, dict) else {"type": "user", "cwd": str(r)} for r in records]
        (place / "s.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        return str(place / "s.jsonl")

    return make


def find(transcript, started, shell):
    """The folder that is found."""
    return conversation_folder.find(transcript, started=str(started or ""), shell=str(shell))


def moved(folder):
    """The record of `/cd`."""
    return {"type": "relocated", "relocatedCwd": str(folder)}


def entered(folder, home):
    """The record of EnterWorktree; of ExitWorktree without a folder."""
    held = {"worktreePath": str(folder), "originalCwd": str(home)} if folder else None
    return {"type": "worktree-state", "worktreeSession": held}


def test_the_shell_s_folder_is_not_the_conversation_s(folders, keep):
    """After `cd`, into an added repository or below, with records and without, or without a start.

    Before, the shell's folder was taken.
    """
    app, lib, api = folders
    for shell in (lib, api, app, "/"):
        assert find(keep(app, app, shell), app, shell) == str(app)
        assert find(keep(app, app, shell), "", shell) == str(app)
        assert find(keep(app).replace("s.jsonl", "none"), app, shell) == str(app)
    assert find(keep(api, api, app), api, app) == str(api)


def test_a_session_that_moved_works_where_it_moved_to(folders, keep):
    """`/cd` takes the transcript along and leaves CLAUDE_PROJECT_DIR; `/clear` keeps the folder."""
    app, lib, api = folders
    assert find(keep(lib, app, moved(lib), lib), app, lib) == str(lib)
    assert find(keep(lib, lib), app, lib) == str(lib)
    assert find(keep(api, app, moved(api), api), app, app) == str(api)
    assert find(keep(app, app, moved(lib), lib, moved(app)), app, lib) == str(app)


def test_a_session_resumed_elsewhere_works_where_it_was_started(folders, keep):
    """`claude --resume` in another folder keeps the transcript where it was (measured)."""
    app, lib, api = folders
    assert find(keep(app, app, lib), lib, lib) == str(lib)
    assert find(keep(app, app, api), api, api) == str(api)


def test_a_work_tree_that_was_entered_counts_while_the_shell_is_in_it(folders, keep, tmp_path):
    """2.1.197 leaves the transcript where it was (EnterWorktree); left again it does not count."""
    app, lib, _ = folders
    tree = tmp_path / "tree"
    Repository(app).git("worktree", "add", "-q", str(tree))
    assert find(keep(app, app, entered(tree, app), tree), app, tree) == str(tree)
    assert find(keep(app, app, entered(tree, app), tree, entered("", app)), app, app) == str(app)
    # A record cannot name a work tree of another repository.
    assert find(keep(app, app, entered(lib, app), lib), app, lib) == str(app)


def test_two_folders_of_one_name_are_told_apart_by_where_claude_was_started(tmp_path, keep):
    """`a-b` and `a/b` have the same key."""
    one, two = make_repository(tmp_path / "a-b").root, make_repository(tmp_path / "a" / "b").root
    assert find(keep(one, one), one, two) == str(one)
    assert find(keep(one, one), "", two) == str(one)
    assert find(keep(two, two), two, one) == str(two)


def test_a_folder_that_is_gone_is_not_taken_for_another_of_its_name(tmp_path, keep):
    """Before, the shell's was taken, though the conversation tells of the one that is gone."""
    gone, twin = tmp_path / "a-b", make_repository(tmp_path / "a" / "b").root
    for records in ((gone,), (gone, twin)):
        with pytest.raises(RepositoryError, match="not certain which repository"):
            find(keep(gone, *records), "", twin)


def test_a_move_counts_wherever_in_a_long_conversation_it_stands(folders, keep, monkeypatch):
    """Neither among the first records nor in the last 4 MiB: before, the plan was refused.

    A record that is longer than what is held in memory at a time hides nothing and tells nothing.
    """
    app, lib, _ = folders
    talk = {"type": "assistant", "message": {"content": "x" * 12_000}}
    records = [app, *[talk] * 450, moved(lib), *[{**talk, "cwd": str(lib)}] * 420]
    transcript = keep(lib, *records)
    assert find(transcript, app, lib) == str(lib)
    monkeypatch.setattr(conversation_folder, "_LONGEST_RECORD", 1000)
    assert find(transcript, app, lib) == str(lib)
    assert list(conversation_folder.scan(transcript, b'"assistant"')) == []


def test_nothing_is_taken_where_two_repositories_come_into_question(folders, keep, tmp_path):
    """A key of no folder that is known and signs that differ; a resumed session that went back."""
    app, lib, _ = folders
    with pytest.raises(RepositoryError, match="not certain which repository"):
        find(keep(tmp_path / "gone", app), app, lib)
    with pytest.raises(RepositoryError, match="not certain which repository"):
        find(keep(app, app, lib, app), lib, app)
    # Where all signs say the same, a name of another kind is no reason to stop.
    assert find(keep(tmp_path / "gone", app), app, app) == str(app)
    assert find("", "", app) == str(app)


def test_a_plan_in_doubt_is_refused_with_the_next_step(world):
    """No run, nowhere; the turn stops, and the sentence says what to type."""
    lib = make_repository(world.home / "lib").root
    world.env["CLAUDE_PROJECT_DIR"] = str(lib)
    said = world.accept().stop
    assert f"not certain which repository the plan is for: {lib} or {world.repo.root}" in said
    assert "then: plandock run --session" in said
    assert world.runs() == []


def test_the_other_repository_s_settings_have_no_say(world):
    """Its `on_accept` would let the plan through to this machine, as it did before."""
    lib = make_repository(world.home / "lib", {".plandock.toml": "on_accept = []\n"}).root
    world.env["CLAUDE_PROJECT_DIR"] = str(world.repo.root)
    key = paths.project_key(str(world.repo.root))
    kept = world.home / ".claude" / "projects" / key / "s.jsonl"
    answer = world.accept(cwd=str(lib), transcript_path=str(kept))
    assert "handed off as" in answer.stop
    (run,) = world.runs()
    assert (run.repo, run.cwd) == 2 * (str(world.repo.root),)
    assert run.folders_left_out == [str(lib)]
    world.wait_for_supervisors()


@pytest.mark.parametrize("version", hooks.VERSIONS)
def test_a_clearing_is_linked_though_the_shell_had_gone_elsewhere(world, version):
    """The new session's shell is back where the conversation is; before, 2.1.332 lost the link."""
    lib = str(make_repository(world.home / "lib").root)
    world.call(world.payload(version, "clear", "PreToolUse-ExitPlanMode-plan", cwd=lib))
    world.call(world.payload(version, "clear", "SessionEnd-clear", cwd=lib))
    start = world.payload(version, "clear", "SessionStart-clear")
    world.call({k: v for k, v in start.items() if k != "prompt_id"})
    assert any(mark.startswith("latch/") for mark in world.marks())


def test_folders_that_were_added_are_known_by_every_way_in_which_they_are(folders, tmp_path, keep):
    """The command line, `/add-dir`, the newest's own record, and settings; none inside counts."""
    app, lib, api = folders
    others = [tmp_path / x for x in "abcd"]
    for folder in others:
        folder.mkdir()
    shown = {"type": "environment", "snapshot": {"additionalWorkingDirectories": [str(others[0])]}}
    said = f"<local-command-stdout>Added \x1b[1m{others[1]}\x1b[22m as a working directory for"
    records = [
        {"type": "attachment", "attachment": shown},
        {"type": "user", "message": {"role": "user", "content": said}},
        {"type": "user", "message": {"role": "user", "content": ["x"]}, "attachment": 3},
    ]
    held = {"permissions": {"additionalDirectories": ["../c", str(api), 7, "\x00"]}}
    (app / ".claude").mkdir()
    (app / ".claude" / "settings.json").write_text(json.dumps(held))
    words = ["--add-dir", "../d", "../lib", "--verbose", "../e"]
    with subprocess.Popen(["sh", "-c", "read x", *words], stdin=subprocess.PIPE) as cli:
        transcript = keep(app, *records)
        hooks.until(lambda: bool(Path(f"/proc/{cli.pid}/cmdline").read_bytes()))
        found = added_folders.known(transcript, str(app), shell=str(api), pid=cli.pid)
        cli.kill()
    assert set(found) == {*map(str, others), str(lib)}


def test_a_folder_that_is_not_there_is_not_named(folders, tmp_path):
    """A relative `--add-dir` belongs to where `claude` was started, not to its work tree."""
    app, lib, _ = folders
    named = ["../lib", "../../lib", str(tmp_path / "file")]
    (tmp_path / "file").touch()
    found = added_folders.outside(str(app), shell=str(tmp_path / "gone"), named=named)
    assert found == [str(lib)]


def test_a_key_of_a_long_path_is_cut_and_hashed_as_claude_code_does_it():
    """Recorded from both versions."""
    start = "/tmp/x12-332-ujmz8xbk/home/w/app/"
    path = start + "x" * 100 + "/" + "y" * 90 + "\u00e9\U0001f600/z"
    key = paths.project_key(path)
    assert key.startswith("-tmp-x12-332-ujmz8xbk-home-w-app-" + "x" * 100 + "-y")
    assert len(key.rpartition("-")[0]) == 200
    assert key.endswith("y-7506j4")
