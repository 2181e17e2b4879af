"""The isolation probe, in real boxes: what it says of a sealed one, and of each that is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plandock.box import launch
from plandock.box.expectations import expectations_of
from plandock.engines.protocol import Tmpfs, VolumeMount
from tests.support.boxes import Box

pytestmark = pytest.mark.timeout(900)


def test_every_check_passes_in_a_box_as_it_is_ordered(make_box: Callable[..., Box]) -> None:
    """All checks are true on this engine, none is left out, and the box is as told."""
    found = make_box().probe()
    assert len(found) >= 18
    assert {name: c["detail"] for name, c in found.items() if c["ok"] is not True} == {}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "another-user": ({"user": "1001:1001"}, "user"),
    "a-network": ({"network": "bridge"}, "network"),
    "a-capability": ({"cap_add": ("NET_RAW",)}, "capabilities"),
    "new-privileges": ({"no_new_privileges": False}, "no-new-privileges"),
    "a-writable-root": ({"read_only": False}, "root-read-only"),
    "no-memory-limit": ({"memory_bytes": None}, "cgroup-limits"),
    "more-processes": ({"pids_limit": 9999}, "cgroup-limits"),
    "core-dumps": ({"ulimits": ()}, "resource-limits"),
    "a-variable-of-the-host": ({"env": {"SSH_AUTH_SOCK": "/x"}}, "environment"),
    "a-larger-shared-memory": ({"shm_bytes": 256 << 20}, "tmpfs-sizes"),
    "another-init": ({"init": False}, "processes"),
    "a-further-mount": ({"tmpfs": (Tmpfs("/host", 1 << 20),)}, "mounts"),
}


def test_the_probe_names_what_is_wrong(make_box: Callable[..., Box]) -> None:
    """A box with one protection less fails in the check of that protection."""
    box = make_box()
    sealed = box.spec
    unnoticed = {}
    for case, (changes, check) in WRONG.items():
        box.engine.remove(box.name)
        box.engine.create(replace(sealed, **changes))
        box.engine.start(box.name)
        found = box.probe()[check]
        if found["ok"] is not False:
            unnoticed[case] = found
    assert unnoticed == {}


def test_a_writable_mirror_is_found(make_box: Callable[..., Box]) -> None:
    """The volumes that are read-only are tried, and their mounts compared."""
    box = make_box()
    box.engine.remove(box.name)
    writable = tuple(VolumeMount(v.name, v.path) for v in box.spec.volumes)
    box.engine.create(replace(box.spec, volumes=writable))
    box.engine.start(box.name)
    found = box.probe()
    assert (found["volumes-read-only"]["ok"], found["mounts"]["ok"]) == (False, False)


def test_another_volume_in_the_place_of_the_runs_own_is_found(
    make_box: Callable[..., Box],
) -> None:
    """A mount at the right path is not enough: it has to be the run's volume."""
    box = make_box()
    expected = expectations_of(box.sealed_spec(), box.engine)
    expected["volumes"][box.run.repo]["name"] = "plandock-other-work"
    assert "not the run's volume" in box.probe(expected)["mounts"]["detail"]


def test_without_expectations_nothing_passes(make_box: Callable[..., Box]) -> None:
    """An order that does not say what the box should be is a failed check."""
    box = make_box()
    code = "import sys,json; sys.path.insert(0,'/opt/plandock'); import probe; "
    done = box.python(code + "print(json.dumps(list(probe.examine(None))))")
    assert json.loads(done.stdout)[0]["ok"] is False


def test_the_probe_starts_no_process() -> None:
    """It is part of every start, so it asks the kernel and nobody else."""
    folder = Path(launch.__file__).parent / "inside"
    source = (folder / "probe.py").read_text() + (folder / "mounts.py").read_text()
    assert "subprocess" not in source
    assert "os.system" not in source
    assert "fork" not in source
