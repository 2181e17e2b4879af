"""The version in the box is the one that wrote the conversation, whatever the host has by now."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from plandock.claude import binary
from plandock.claude.package import NoSuchVersion
from plandock.errors import EngineError, PlandockError
from plandock.hook import caller, preflight, transcript
from plandock.runs.model import Run, RunId
from plandock.supervisor.cli_choice import choose

OLD, NEW = binary.TESTED


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A throwaway home and state folder, and nothing on PATH."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", "/absent")
    return tmp_path


def cli(path: Path, version: str) -> str:
    """A program that says it is this version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{version} (Claude Code)'\n")
    path.chmod(0o755)
    return str(path)


def run(wrote: str, program: str, *, staged: bool = False) -> Run:
    """A run of a conversation that this version wrote."""
    return Run(id=RunId("r222"), cli_version=wrote, claude=program, staged=staged)


def image_of(*there: str) -> Callable[[str], str]:
    """Images of these versions; the registry has no other."""

    def ensure(version: str) -> str:
        if version not in there:
            raise NoSuchVersion(f"the npm registry has no {version}")
        return f"image-{version}"

    return ensure


@pytest.mark.parametrize(
    ("wrote", "here", "there", "chosen"),
    [
        ("2.1.250", "2.1.250", ("2.1.250",), "2.1.250"),
        ("2.1.250", NEW, ("2.1.250", NEW), "2.1.250"),  # updated in the middle of the conversation
        (NEW, OLD, (OLD, NEW), NEW),  # put back
        ("2.1.250", "", ("2.1.250",), "2.1.250"),  # removed
        ("", OLD, (OLD,), OLD),  # the conversation does not say
        ("2.1.250", "2.1.300", ("2.1.300", NEW), "2.1.300"),  # the nearest later one
        ("2.1.250", OLD, (OLD, NEW), NEW),  # an earlier one does not read it
        ("2.1.250", "", (NEW,), NEW),
        ("2.1.100", NEW, ("2.1.100", OLD, NEW), OLD),  # older than all that is supported
        ("2.1.100", "2.1.100", ("2.1.100",), "2.1.100"),  # but it is what the user runs
        ("2.1.400", NEW, ("2.1.400", NEW), "2.1.400"),
        ("2.1.400", "2.1.350", ("2.1.350", NEW), "2.1.350"),  # earlier, as nothing later is known
        ("2.1.400", "2.1.350", (NEW,), NEW),
        ("2.1.400", "", (NEW,), NEW),
        ("", "", (NEW,), NEW),  # nothing tells at all
    ],
)
def test_the_version_for_the_box(
    home: Path, wrote: str, here: str, there: tuple[str, ...], chosen: str
) -> None:
    """What wrote the conversation; else the nearest later one, with a note.

    Where there is only an earlier one, the run begins from the plan; before, it could not begin.
    """
    program = cli(home / "bin/claude", here) if here else str(home / "gone")
    version, image, notes, fresh = choose(run(wrote, program), image_of(*there))
    assert (version, image) == (chosen, f"image-{chosen}")
    assert fresh == binary.comes_after(wrote, chosen)
    if wrote and wrote != chosen and not binary.older(wrote):
        (note,) = notes
        assert wrote in note
        assert chosen in note
        assert ("begun from the plan" in note) == fresh
    elif not wrote and not here:
        assert notes == [
            f"nothing tells which Claude Code the plan was made with: the box has {NEW}"
        ]
    else:
        assert notes == []


def test_nothing_to_be_had_is_said_of_the_version_that_is_needed(home: Path) -> None:
    """And an engine that is down is no reason to take another version."""
    program = cli(home / "bin/claude", NEW)
    with pytest.raises(PlandockError, match=r"no 2\.1\.250"):
        choose(run("2.1.250", program), image_of())

    def down(_: str) -> str:
        raise EngineError("it is down")

    with pytest.raises(EngineError):
        choose(run("2.1.250", program), down)

    def unreachable(version: str) -> str:
        if version == "2.1.400":
            raise PlandockError("the npm registry does not answer")
        return version

    with pytest.raises(PlandockError, match="does not answer"):
        choose(run("2.1.400", program), unreachable)
    staged = run("2.1.250", program, staged=True)
    assert choose(staged, image_of("2.1.250"))[0] == "2.1.250"
    with pytest.raises(NoSuchVersion):
        choose(staged, image_of(NEW))


def test_the_last_record_of_a_message_tells_the_version(tmp_path: Path) -> None:
    """Resumed by a later version: that one; what is no release is passed over."""
    rows = [
        {"type": "user", "version": "2.1.250"},
        {"type": "assistant", "version": "2.1.300"},
        {"type": "attachment", "version": "2.1.301"},
        {"type": "user", "version": "$(touch evil)"},
        {"type": "user", "version": ["2.1.302"]},
        {"type": "user", "message": {"content": '"version":"2.1.303"'}},
    ]
    file = tmp_path / "x.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert transcript.written_by(str(file)) == "2.1.300"
    assert transcript.written_by(str(tmp_path / "absent")) == ""


@pytest.mark.parametrize("name", ["claude", "claude.exe", "versions"])
@pytest.mark.parametrize("fate", ["there", "removed", "replaced"])
def test_the_process_that_calls_tells_the_program(home: Path, name: str, fate: str) -> None:
    """npm's name for it, too, and where its file was taken away under the running process."""
    program = home / ("share/claude/versions/2.1.250" if name == "versions" else f"bin/{name}")
    program.parent.mkdir(parents=True)
    shutil.copy(shutil.which("sleep", path=os.defpath) or "/bin/sleep", program)
    with subprocess.Popen([str(program), "600"]) as process:
        try:
            end = time.monotonic() + 60
            while os.readlink(f"/proc/{process.pid}/exe") != str(program):
                assert time.monotonic() < end
            if fate != "there":
                program.unlink()
            if fate == "replaced":
                cli(program, NEW)
            caller.told(str(process.pid))
            assert preflight.find_cli({}) == str(program)
        finally:
            caller.told("")
            process.kill()


def test_a_program_that_was_taken_away_gives_way_to_one_that_is_there(home: Path) -> None:
    """Removed and installed elsewhere: that one can open the conversation later."""
    program = home / "old/claude"
    program.parent.mkdir()
    shutil.copy(shutil.which("sleep", path=os.defpath) or "/bin/sleep", program)
    other = cli(home / ".local/bin/claude", NEW)
    with subprocess.Popen([str(program), "600"]) as process:
        end = time.monotonic() + 60
        while os.readlink(f"/proc/{process.pid}/exe") != str(program):
            assert time.monotonic() < end
        program.unlink()
        caller.told(str(process.pid))
        try:
            assert preflight.find_cli({}) == other
        finally:
            caller.told("")
            process.kill()


def test_a_shims_answer_is_not_kept(home: Path) -> None:
    """Volta's is one large program for every tool: it stays while what it starts changes."""
    shim = home / "volta/volta-shim"
    cli(shim, "2.1.300")
    shim.write_text(shim.read_text() + "exit 0\n" + "#" * (2 << 20))
    (home / "bin").mkdir()
    (home / "bin/claude").symlink_to(shim)
    assert binary.version_of(home / "bin/claude") == "2.1.300"
    stamp = shim.stat()
    text = shim.read_text().replace("2.1.300", "2.1.301")
    shim.write_text(text)
    os.utime(shim, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert binary.version_of(home / "bin/claude") == "2.1.301"
