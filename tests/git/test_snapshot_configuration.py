"""No code of the configuration runs for a snapshot; conversions by git itself stay in force."""

from __future__ import annotations

import os

import pytest

from plandock.errors import RepositoryError
from tests.git.worlds import add_submodule, trap, untouched, use_lfs, wait_out_the_clock


@pytest.mark.parametrize("scope", ["--local", "--global"])
@pytest.mark.parametrize(
    "driver", ["plain", "a=b", 'q"u;#o', "a.b.", "UPPER", "ü", "in force = never"]
)
def test_no_clean_filter_runs(world, driver, scope):
    """Whatever its name and wherever configured; a plain `git add` would have run it."""
    program, mark = trap(world, "clean")
    world.git("config", scope, f"filter.{driver}.clean", str(program))
    world.git("config", scope, f"filter.{driver}.smudge", str(program))
    world.git("config", scope, f"filter.{driver}.required", "true")
    # An attribute cannot name every driver; a wildcard cannot either, so some are never in force.
    spelled = driver if " " not in driver else ""
    world.write(".git/info/attributes", f"*.bin filter={spelled}\n" if spelled else "")
    world.write("new.bin")
    world.write("a.txt", "x\n")
    if spelled:
        world.git("add", "-n", "new.bin")
        world.git("hash-object", "--path", "x.bin", "new.bin")
        assert mark.exists(), "the positive control did not run the filter"
        mark.unlink()
    taken = world.snapshot()
    assert not mark.exists()
    assert taken.included == (["a.txt"] if spelled else ["a.txt", "new.bin"])
    assert taken.left_out == ([f"new.bin ({driver}-filtered, untracked)"] if spelled else [])


def test_no_filter_process_runs(world):
    """A long-running filter, required, on a racily clean tracked file."""
    program, mark = trap(world, "process")
    world.commit(x__bin="raw\n")
    wait_out_the_clock(world)
    world.git("config", "filter.p.process", str(program))
    world.git("config", "filter.p.required", "true")
    world.write(".git/info/attributes", "*.bin filter=p\n")
    # The index is as young as the file: git has to look at the content.
    os.utime(world.root / ".git/index", ns=(10**18, 10**18))
    world.git("--no-optional-locks", "status", check=False)
    assert mark.exists(), "the positive control did not run the filter"
    mark.unlink()
    for mode in ("include", "exclude", "refuse"):
        assert world.snapshot(mode).left_out == []
    (world.root / "x.bin").touch()
    for mode in ("include", "exclude"):
        taken = world.snapshot(mode)
        assert taken.commit == world.head()
        assert taken.left_out == ["x.bin (p-filtered, changed or touched)"]
    with pytest.raises(RepositoryError):
        world.snapshot("refuse")
    assert not mark.exists()


def test_no_hook_monitor_or_signing_program_runs(world):
    """Hooks (a reference transaction too), the file-system monitor, gpg, textconv, a pager."""
    marks = []
    hooks = world.root / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    program, mark = trap(world, "hook")
    marks.append(mark)
    for name in ("pre-commit", "post-commit", "reference-transaction", "post-index-change"):
        os.symlink(program, hooks / name)
    monitor, mark = trap(world, "monitor")
    marks.append(mark)
    world.git("config", "core.fsmonitor", str(monitor))
    world.git("config", "core.untrackedCache", "true")
    for key in (
        "gpg.program",
        "diff.d.textconv",
        "core.pager",
        "diff.external",
        "core.alternateRefsCommand",
        "credential.helper",
        "core.editor",
    ):
        program, mark = trap(world, key)
        marks.append(mark)
        world.git("config", key, str(program))
    world.git("config", "commit.gpgSign", "true")
    world.git("config", "log.showSignature", "true")
    world.write(".gitattributes", "*.txt diff=d\n")
    world.write("a.txt", "x\n")
    world.git("update-index", "--fsmonitor")
    world.git("status")
    world.git("update-ref", "refs/heads/control", "HEAD")
    assert marks[0].exists(), "the positive control did not run the hook"
    assert marks[1].exists(), "the positive control did not run the monitor"
    marks[0].unlink()
    marks[1].unlink()
    with untouched(world.root):
        taken = world.snapshot()
    assert set(taken.included) == {"a.txt", ".gitattributes"}
    assert [x for x in marks if x.exists()] == []


def test_a_monitor_that_says_nothing_changed_is_not_believed(world):
    """What a file-system monitor left in the index does not hide a change."""
    quiet = world.folder / "quiet.sh"
    quiet.write_text("#!/bin/sh\nprintf 'token\\0'\n")
    quiet.chmod(0o755)
    world.git("config", "core.fsmonitor", str(quiet))
    world.git("update-index", "--fsmonitor")
    world.git("status")
    world.write("a.txt", "other content\n")
    assert "a.txt" not in world.git("status", "--porcelain"), "the control saw through it"
    assert world.snapshot().included == ["a.txt"]


def test_a_submodules_own_configuration_does_not_run(world):
    """Looking whether a submodule changed runs neither its filters nor its monitor."""
    inner = add_submodule(world)
    program, mark = trap(world, "inner")
    world.git("config", "filter.f.clean", str(program), at=inner)
    world.git("config", "core.fsmonitor", str(program), at=inner)
    (inner / ".gitattributes").write_text("* filter=f\n")
    (inner / "file").write_text("changed\n")
    world.git("status")
    assert mark.exists(), "the positive control ran nothing"
    mark.unlink()
    assert world.snapshot().left_out == ["sub (submodule, with changes of its own)"]
    assert not mark.exists()


def test_a_changed_lfs_file_keeps_its_pointer_and_is_named(world):
    """Its content cannot be hashed without the filter, so HEAD's pointer stays."""
    use_lfs(world)
    pointer = world.tree("HEAD")["big.bin"]
    world.write("big.bin", "changed\n")
    world.write("new.bin", "new\n")
    world.write("a.txt", "x\n")
    with untouched(world.root):
        taken = world.snapshot()
    assert world.tree(taken.commit)["big.bin"] == pointer
    assert taken.included == ["a.txt"]
    assert taken.left_out == [
        "big.bin (lfs-filtered, changed)",
        "new.bin (lfs-filtered, untracked)",
    ]


@pytest.mark.parametrize("how", ["racy", "touched", "pointer"])
def test_an_unchanged_lfs_file_is_not_misjudged(world, how):
    """Racily clean, touched, or never smudged: nothing is left out, nothing is refused."""
    use_lfs(world)
    place = world.root / "big.bin"
    if how == "racy":
        os.utime(world.root / ".git/index", ns=(0, place.stat().st_mtime_ns))
    elif how == "touched":
        os.utime(place, ns=(5, 5))
    else:
        place.write_text(world.git("cat-file", "blob", "HEAD:big.bin") + "\n")
    for mode in ("include", "refuse", "exclude"):
        taken = world.snapshot(mode)
        assert (taken.commit, taken.left_out) == (world.head(), [])


def test_a_racily_clean_file_of_another_filter_is_not_misjudged(world):
    """Without its filter it would look changed; its stat data say that it is not."""
    world.git("config", "filter.up.clean", "tr a-z A-Z")
    world.commit(__gitattributes="*.up filter=up\n", x__up="lower\n")
    moment = (world.root / "x.up").stat().st_mtime_ns
    os.utime(world.root / ".git/index", ns=(moment, moment))
    assert world.snapshot("refuse").left_out == []


def test_what_was_staged_through_a_filter_is_taken(world):
    """A cleaned version in the index is right as it is, and a deletion needs no filter."""
    use_lfs(world)
    world.commit(two__bin="two\n")
    world.write("big.bin", "staged\n")
    world.git("add", "big.bin")
    (world.root / "two.bin").unlink()
    taken = world.snapshot()
    assert taken.left_out == []
    assert "sha256" in world.content(taken.commit, "big.bin")
    assert world.tree(taken.commit) == world.add_all(taken.base)


def test_a_filter_without_a_command_is_no_filter(world):
    """An attribute for a driver that this machine has not configured changes nothing."""
    world.write(".gitattributes", "*.bin filter=absent\n")
    world.write("x.bin", "raw\n")
    assert world.content(world.snapshot().commit, "x.bin") == "raw\n"


@pytest.mark.parametrize(
    ("key", "value"), [("core.autocrlf", "true"), ("core.autocrlf", "input"), ("core.eol", "crlf")]
)
def test_line_endings_are_converted_as_git_would(world, key, value):
    """eol, autocrlf and working-tree-encoding stay in force, safecrlf does not stop it."""
    world.git("config", key, value)
    world.write(".gitattributes", "*.t text\n*.u working-tree-encoding=UTF-16LE text\n")
    world.write("crlf.txt", "one\r\ntwo\r\n")
    world.write("x.t", "one\r\ntwo\n")
    world.write("x.u", "ü\n".encode("utf-16-le"))
    oracle = world.add_all(world.head())
    world.git("config", "core.safecrlf", "true")
    taken = world.snapshot()
    assert world.tree(taken.commit) == oracle
    assert world.content(taken.commit, "x.t") == "one\ntwo\n"
    assert world.content(taken.commit, "x.u") == "ü\n"
