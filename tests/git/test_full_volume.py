"""A harvest on a full disk: what cannot be committed for want of room is not left behind."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from plandock.errors import HarvestRefused
from tests.git.boxes import Box, take
from tests.git.worlds import World
from tests.support.machine import as_root
from tools.setup.commands import environment

pytestmark = pytest.mark.netns
CONTENT = os.urandom(2 << 20)


@pytest.fixture
def small(world: World) -> Iterator[Path]:
    """A file system in memory, mounted by this test."""
    place = world.folder / "small"
    place.mkdir()
    owner = f"size=8m,uid={os.getuid()},gid={os.getgid()}"
    mount = ["mount", "-t", "tmpfs", "-o", owner, "tmpfs", str(place)]
    subprocess.run([*as_root(), *mount], env=environment(), check=True)
    yield place
    unmount = ["umount", "--lazy", str(place)]
    subprocess.run([*as_root(), *unmount], env=environment(), check=True)


def fill(place: Path, *, leave: int) -> Path:
    """Take all room but so many bytes."""
    found = os.statvfs(place)
    filler = place / "filler"
    filler.write_bytes(bytes(max(0, found.f_bavail * found.f_frsize - leave)))
    return filler


@pytest.mark.parametrize("leave", [0, 1 << 20])
def test_uncommitted_work_on_a_full_volume_is_tried_again_and_then_all_there(
    world: World, small: Path, leave: int
) -> None:
    """Exit code 28 and a word, whether nothing fits or only not all; with room, every byte."""
    box = Box(world, name="small/box")
    box.commit({"done.txt": "committed\n"})
    box.write("left.bin", CONTENT)
    filler = fill(small, leave=leave)
    done = box.run()
    assert done.returncode == errno.ENOSPC, done.stdout[:500]
    assert b"error" in done.stdout
    filler.unlink()
    found = take(world, box, box.harvest())
    assert found.commits == 2
    assert not [x for x in found.notes if "left behind" in x]
    assert world.git("cat-file", "-s", f"{found.branch}:left.bin") == str(len(CONTENT))


def test_a_file_named_like_a_full_disk_is_no_full_disk(world: World) -> None:
    """An agent cannot have its run wait for ever by a file that git fails at."""
    box = Box(world)
    box.commit({"done.txt": "committed\n"})
    (box.root / ": No space left on device").mkdir()
    box.git("init", "-q", str(box.root / ": No space left on device/inner"))
    box.write(": No space left on device/inner/.git/HEAD", "broken: No space left on device")
    assert box.run().returncode != errno.ENOSPC


def test_a_full_disk_of_the_users_is_no_fault_of_the_work(world: World, small: Path) -> None:
    """The quarantine meets it: an error of the system and not a refusal; with room it passes."""
    box = Box(world)
    box.commit({"big.bin": CONTENT})
    answer = box.harvest()
    world.folder.joinpath("run").symlink_to(small)
    filler = fill(small, leave=len(CONTENT) + (1 << 20))
    with pytest.raises(OSError, match="No space left") as caught:
        take(world, box, answer)
    assert not isinstance(caught.value, HarvestRefused)
    filler.unlink()
    assert take(world, box, answer).commits == 1
