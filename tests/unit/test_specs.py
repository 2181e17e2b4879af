"""How each container of a run is ordered: its network, its mounts, its user.

The probe looks at a real box from inside; this says what is asked for, without one.
"""

from __future__ import annotations

import pytest

from plandock.box import launch
from plandock.engines.protocol import ContainerSpec
from plandock.runs.model import Run, RunId
from plandock.settings.keys import Settings

RUN = Run(id=RunId("r222"), repo="/home/ada/project", cwd="/home/ada/project")
NAMES = launch.names_of(RUN)
SPECS: dict[str, ContainerSpec] = {
    "box": launch.box_spec(RUN, "image", Settings()),
    "gateway": launch.gateway_spec(RUN, "image", Settings(), {}),
    "stage": launch.stage_spec(RUN, "image", "sha1"),
    "harvest": launch.reader_spec(RUN, "image", "harvest", ("python3",)),
}


def test_only_the_gateway_has_a_network() -> None:
    """The host's own it has for a stand-in on loopback alone."""
    networks = {role: spec.network for role, spec in SPECS.items()}
    assert networks == {"box": "none", "gateway": "bridge", "stage": "none", "harvest": "none"}


def test_box_can_write_only_its_work_and_its_conversation() -> None:
    """What other runs borrow from, and the gateway's sockets, are read-only."""
    writable = {volume.name for volume in SPECS["box"].volumes if not volume.read_only}
    assert writable == {NAMES.work, NAMES.conversation}
    assert {volume.name for volume in SPECS["box"].volumes} == {
        *writable, NAMES.mirror, NAMES.link,
    }  # fmt: skip


def test_gateway_sees_nothing_of_the_workspace() -> None:
    """It has the way out, so it has the sockets and no more."""
    assert [volume.name for volume in SPECS["gateway"].volumes] == [NAMES.link]


def test_harvest_cannot_write_what_it_only_reads() -> None:
    """It commits what was left over, and nothing else."""
    writable = [volume.name for volume in SPECS["harvest"].volumes if not volume.read_only]
    assert writable == [NAMES.work]


@pytest.mark.parametrize("role", SPECS)
def test_container_is_read_only_unprivileged_and_limited(role: str) -> None:
    """Only the one that hands the volumes over begins as root, with what that takes."""
    spec = SPECS[role]
    assert (spec.read_only, spec.no_new_privileges) == (True, True)
    assert spec.user == ("0:0" if role == "stage" else "1000:1000")
    assert spec.cap_add == (("CHOWN", "SETUID", "SETGID") if role == "stage" else ())
    assert spec.memory_bytes
    assert spec.pids_limit
    assert spec.ulimits == launch.LIMITS


def test_box_gets_the_limits_that_the_user_has_set() -> None:
    """Memory, processes and processors, each as it stands in the settings."""
    spec = launch.box_spec(RUN, "image", Settings(memory=1 << 30, pids=99, cpus=0.5))
    assert (spec.memory_bytes, spec.pids_limit, spec.cpus) == (1 << 30, 99, 0.5)
