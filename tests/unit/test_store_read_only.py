"""A store in a folder that cannot be written, or on a full disk: it still reads, and says why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.machine import as_root

# In mount namespaces of their own: a small file system in memory, filled or made read-only.
_SCENE = """\
set -e
mount -t tmpfs -o size=1m none "$1"
export XDG_STATE_HOME="$1"
"$2" -c "$3"
{spoil}
set +e
"$2" -m plandock ps --json
"$2" -m plandock show r222 >/dev/null; echo "show $?"
"$2" -m plandock stop r222; echo "stop $?"
{mend}
"$2" -m plandock ps --json | grep -c r222
"""
_ADD = """\
from plandock import paths
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import Store
paths.run_dir("r222").mkdir(parents=True)
with Store() as store:
    store.add(Run(id=RunId("r222"), state=State.WAITING), name_branch=lambda _: "b")
"""
_FILL = 'cat /dev/zero >"$1/filler" 2>/dev/null || true; test -s "$1/filler"'
# As the last connection leaves it on a full disk: a log, and not what readers share.
_LEAVE_A_LOG = (
    '"$2" -c \'import os; from plandock.runs.store import Store; '
    'Store().change("r222", message="m"); os._exit(0)\'; '
    'test -s "$1/plandock/plandock.db-wal"; rm "$1/plandock/plandock.db-shm"; '
)
SPOILT = {
    "read-only": ('mount -o remount,ro "$1"', 'mount -o remount,rw "$1"'),
    "full": (_FILL, 'rm "$1/filler"'),
    "full, with a log": (_LEAVE_A_LOG + _FILL, 'rm "$1/filler"'),
}


@pytest.mark.netns
@pytest.mark.parametrize("name", SPOILT)
def test_a_store_that_cannot_be_written_is_read_and_a_change_is_refused_in_a_line(
    name: str, tmp_path: Path
) -> None:
    """`ps` and `show` answer; `stop` ends with 1 and a sentence; afterwards nothing is lost."""
    spoil, mend = SPOILT[name]
    words = [
        *as_root(),
        "unshare",
        "--mount",
        "sh",
        "-c",
        _SCENE.format(spoil=spoil, mend=mend),
        "sh",
    ]
    done = subprocess.run(
        [*words, str(tmp_path), sys.executable, _ADD],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    said = done.stdout + done.stderr
    assert '"id": "r222"' in done.stdout, said
    assert "show 0" in done.stdout, said
    assert "stop 1" in done.stdout, said
    assert "cannot be written" in done.stderr, said
    assert "Traceback" not in said
    assert done.stdout.splitlines()[-1] == "1", said
