"""Rules of the work on its way home, broken: promise 6 (nothing is lost) and what is let in."""

from __future__ import annotations

from tools.mutations.mutation import Mutation

KEEPING: tuple[Mutation, ...] = (
    Mutation(
        name="link-out-of-the-tree-let-in",
        promise=2,
        file="src/plandock/workspace/pathrules.py",
        before='    if up > path.count(b"/"):\n',
        after="    if False:\n",
        tests=("tests/git/test_quarantine.py::test_links_out_of_the_tree_are_refused",),
        why="no link of the box's leads out of the repository",
    ),
    Mutation(
        name="git-folder-in-another-case-let-in",
        promise=2,
        file="src/plandock/workspace/pathrules.py",
        before='unicodedata.normalize("NFD", text).casefold())',
        after='unicodedata.normalize("NFD", text))',
        tests=(
            "tests/unit/test_dot_git.py::test_name_is_refused_when_a_file_system_takes_it_for_git",
        ),
        why="`.GIT` is git's own folder where file names have no case",
    ),
    Mutation(
        name="background-is-cut-off",
        promise=6,
        file="src/plandock/box/inside/steward.py",
        before="            if tasks and not at.spent "
        "and (patience_s is None or quiet_s <= patience_s):\n                continue\n",
        after="",
        tests=(
            "tests/unit/test_steward.py"
            "::test_the_background_is_waited_for_as_long_as_the_order_says",
        ),
        why="what the agent left at work in the background is waited for",
    ),
    Mutation(
        name="old-tasks-end-is-the-answer",
        promise=6,
        file="src/plandock/claude/stream.py",
        before="self.answered = self.answered or not _answers_a_task(message)",
        after="self.answered = True",
        tests=(
            "tests/unit/test_stream.py::test_the_end_of_an_old_task_is_no_answer_to_the_prompt",
        ),
        why="a run is not done because a task of the planning phase has ended",
    ),
    Mutation(
        name="leftovers-not-committed",
        promise=6,
        file="src/plandock/workspace/inside/leftovers.py",
        before="    if not wanted:\n        return head\n",
        after="    if wanted or not wanted:\n        return head\n",
        tests=("tests/git/test_harvest.py::test_commits_and_leftovers_arrive_on_one_branch",),
        why="what the agent has not committed arrives, too",
    ),
    Mutation(
        name="volume-removed-with-what-was-left",
        promise=6,
        file="src/plandock/supervisor/harvesting.py",
        before="    kept = _is_kept(run.notes)\n",
        after="    kept = False\n",
        tests=(
            "tests/unit/test_kept_volumes.py::test_harvest_keeps_the_volume_when_something_is_left_behind",
        ),
        why="what could not come along stays in its volume",
    ),
    Mutation(
        name="move-not-guarded",
        promise=6,
        file="src/plandock/runs/store.py",
        before="            if run.state is not source:\n                return None\n",
        after="",
        tests=("tests/unit/test_store_moves.py",),
        why="two processes never both move a run",
    ),
    Mutation(
        name="record-not-in-its-folder",
        promise=6,
        file="src/plandock/runs/store.py",
        before="        folder.write(self._runs, run, synced=synced)\n",
        after="",
        tests=("tests/unit/test_store_mending.py",),
        why="a lost store is rebuilt from the runs' folders",
    ),
    Mutation(
        name="dead-supervisor-taken-for-alive",
        promise=6,
        file="src/plandock/supervisor/queue.py",
        before="        if alive.is_same(run.supervisor_pid, run.supervisor_started):\n",
        after="        if run.supervisor_pid:\n",
        tests=(
            "tests/unit/test_queue.py"
            "::test_a_run_is_left_to_the_process_that_makes_it_and_not_to_a_dead_one",
        ),
        why="a run whose supervisor was killed gets another",
    ),
    Mutation(
        name="two-supervisors-at-once",
        promise=6,
        file="src/plandock/supervisor/held.py",
        before="fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        after="fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        tests=("tests/unit/test_held.py",),
        why="one process drives a run",
    ),
    Mutation(
        name="recovery-clears-work-away",
        promise=6,
        file="src/plandock/supervisor/recover.py",
        before="    volumes = [] if spare else parts.volumes\n",
        after="    volumes = parts.volumes\n",
        tests=("tests/unit/test_kept_volumes.py::test_recover_removes_no_volume_that_holds_work",),
        why="`recover` removes no volume that holds work",
    ),
    Mutation(
        name="gc-takes-what-was-not-harvested",
        promise=6,
        file="src/plandock/supervisor/collecting.py",
        before="if run is not None and not run.staged and run.exit_code != 23:",
        after="if run is not None:",
        tests=(
            "tests/unit/test_drop_and_gc.py::test_gc_spares_the_volumes_of_what_was_not_harvested",
        ),
        why="`gc` never takes what has not been harvested",
    ),
    Mutation(
        name="dropped-without-a-copy",
        promise=6,
        file="src/plandock/cli/ending.py",
        before="                kept = dropping.keep(found)\n",
        after="                pass\n",
        tests=(
            "tests/unit/test_drop_and_gc.py::test_drop_keeps_a_bundle_that_can_be_fetched_from",
        ),
        why="what a drop takes is kept for a while",
    ),
    Mutation(
        name="full-disk-ends-a-run",
        promise=6,
        file="src/plandock/supervisor/drive.py",
        before="    elif _is_full(error):\n        waiting.interrupt",
        after="    elif False:\n        waiting.interrupt",
        tests=("tests/unit/test_mishaps.py::test_a_full_disk_is_waited_for_and_said_whose_it_is",),
        why="a full disk is waited for",
    ),
    Mutation(
        name="absent-engine-ends-a-run",
        promise=6,
        file="src/plandock/supervisor/drive.py",
        before="    except EngineError:\n        return True\n    return False\n",
        after="    except EngineError:\n        return False\n    return False\n",
        tests=(
            "tests/unit/test_mishaps.py"
            "::test_whatever_breaks_while_the_engine_is_away_is_waited_for",
        ),
        why="an engine that is away is waited for",
    ),
    Mutation(
        name="refused-work-let-in",
        promise=2,
        file="src/plandock/workspace/harvest.py",
        before="        if findings.reasons:\n",
        after="        if False:\n",
        tests=("tests/git/test_quarantine.py::test_evil_in_the_middle_of_the_history_is_refused",),
        why="what was found wrong keeps the work out",
    ),
    Mutation(
        name="mirror-not-mended",
        promise=6,
        file="src/plandock/box/inside/stage.py",
        before="            make_mirror(object_format)\n            return commits_there()\n",
        after="            return []\n",
        tests=(
            "tests/unit/test_staging_in_box.py"
            "::test_a_mirror_that_a_power_cut_emptied_is_mended_and_keeps_what_it_has",
        ),
        why="a power cut takes no later run's way",
    ),
    Mutation(
        name="error-taken-for-success",
        promise=6,
        file="src/plandock/claude/stream.py",
        before='            and self.result.get("is_error") is False\n',
        after="",
        tests=("tests/unit/test_stream.py::test_success_with_is_error_is_a_failure",),
        why="a run whose agent failed is not said to be done",
    ),
    Mutation(
        name="token-kept-in-the-runs-record",
        promise=5,
        file="src/plandock/supervisor/running.py",
        before="                line = redact_tokens(raw)\n",
        after="                line = raw\n",
        tests=("tests/unit/test_kept_output.py",),
        why="what an agent says aloud is kept without its token",
    ),
)
