"""The filter of system calls that Podman gets: its own, less the doors that nobody needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plandock.engines.arguments import create_arguments
from plandock.engines.dialect import Dialect
from plandock.engines.filtering import DOORS, narrowed_file, tightened
from plandock.engines.protocol import ContainerSpec

PROFILE: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "archMap": [],
    "syscalls": [
        {"names": ["read", "clone", "clone3", *sorted(DOORS)], "action": "SCMP_ACT_ALLOW"},
        {"names": ["keyctl"], "action": "SCMP_ACT_ALLOW", "includes": {}},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
    ],
}


def allowed(profile: dict[str, Any]) -> set[str]:
    """What a process without a capability may call unconditionally."""
    return {
        name
        for rule in profile["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args") and not rule.get("includes")
        for name in rule["names"]
    }


def info(source: Path, **more: object) -> dict[str, Any]:
    """What `podman info` says of the filter."""
    security = {"seccompEnabled": True, "seccompProfilePath": str(source)}
    return {"host": {"security": security, **more}}


def test_the_doors_are_out_and_everything_else_stays() -> None:
    """Keys, namespaces and mounts are gone; reading, and rules for a capability, are there."""
    made = tightened(PROFILE)
    assert allowed(made) == {"read"}
    assert PROFILE["syscalls"][2] in made["syscalls"]
    assert PROFILE["syscalls"][3] in made["syscalls"]
    assert not any(rule["names"] == ["clone3"] for rule in made["syscalls"])
    assert allowed(PROFILE) >= DOORS  # positive control


def test_clone_is_allowed_unless_it_makes_a_namespace() -> None:
    """Every flag of a namespace is in the mask (linux/sched.h); the rest is let through."""
    (rule,) = [r for r in tightened(PROFILE)["syscalls"] if r["names"] == ["clone"]]
    (argument,) = rule["args"]
    assert (argument["op"], argument["valueTwo"]) == ("SCMP_CMP_MASKED_EQ", 0)
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert argument["value"] & flag
    for flag in (0x100, 0x800, 0x10000, 0x80000, 0x1200000):
        assert not argument["value"] & flag


def test_clone3_does_not_exist_where_the_default_says_something_else() -> None:
    """Libraries go back to clone only where the kernel seems not to know the other."""
    made = tightened({**PROFILE, "defaultErrnoRet": 1})
    (rule,) = [r for r in made["syscalls"] if r["names"] == ["clone3"]]
    assert (rule["action"], rule["errnoRet"]) == ("SCMP_ACT_ERRNO", 38)


@pytest.mark.parametrize("damage", [{"defaultAction": "SCMP_ACT_ALLOW"}, {"syscalls": "all"}, {}])
def test_what_cannot_be_narrowed_is_left_to_podman(tmp_path: Path, damage: dict[str, Any]) -> None:
    """A profile that allows by default, or is none, gives no file; the engine's own stays."""
    source = tmp_path / "profile.json"
    source.write_text(json.dumps({**PROFILE, **damage}) if damage else "{")
    with pytest.raises(ValueError):
        tightened(json.loads(source.read_text()))
    assert narrowed_file(info(source), tmp_path) == ""


def test_a_profile_is_written_once_and_named_to_the_engine(tmp_path: Path) -> None:
    """The second call gives the same file; a Podman elsewhere, or without a filter, gets none."""
    source = tmp_path / "profile.json"
    source.write_text(json.dumps(PROFILE))
    place = narrowed_file(info(source), tmp_path)
    assert allowed(json.loads(Path(place).read_text())) == {"read"}
    assert narrowed_file(info(source), tmp_path) == place
    assert narrowed_file(info(source, serviceIsRemote=True), tmp_path) == ""
    assert narrowed_file(info(tmp_path / "absent"), tmp_path) == ""
    assert narrowed_file({}, tmp_path) == ""
    words = create_arguments(ContainerSpec("c", "i", ("true",)), Dialect("podman", seccomp=place))
    assert f"seccomp={place}" in words
    assert not any("seccomp" in x for x in create_arguments(ContainerSpec("c", "i", ("true",)), Dialect("podman")))  # fmt: skip  # noqa: E501


def test_a_profile_that_a_power_cut_emptied_is_written_anew(tmp_path: Path) -> None:
    """Its name is there, its content is not: every box would be refused, for ever."""
    source = tmp_path / "source.json"
    source.write_text(json.dumps(PROFILE))
    place = Path(narrowed_file(info(source), tmp_path))
    whole = place.read_bytes()
    place.write_bytes(b"")
    assert narrowed_file(info(source), tmp_path) == str(place)
    assert place.read_bytes() == whole
