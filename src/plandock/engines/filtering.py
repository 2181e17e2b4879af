"""Podman's own filter of system calls, made as narrow as Docker's where the agent would gain.

Podman 4.3's lets a process without any capability make user namespaces, in which it meets more of
the kernel, and ask for keys: no namespace holds the keyring of a user, so that a box could read
the keys of whoever has its uid on the host, and those of other boxes (measured).  So the filter
that Podman itself would use is read, and what opens these doors is taken out.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Without a capability nobody needs these; with it, rules that name the capability stay.
DOORS = frozenset({
    "add_key", "bpf", "fsconfig", "fsmount", "fsopen", "fspick", "keyctl", "mount", "mount_setattr",
    "move_mount", "open_tree", "perf_event_open", "pivot_root", "reboot", "request_key", "setns",
    "syslog", "umount", "umount2", "unshare", "userfaultfd",
})  # fmt: skip
# The flags of clone(2) that make a namespace; clone3(2) hides them from every filter, and libraries
# go back to clone where it is said not to exist.
_NAMESPACES = 0x7E020000
_NO_SUCH_CALL = 38
_LONGEST = 1 << 20


def tightened(profile: Mapping[str, Any]) -> dict[str, Any]:
    """The same profile (OCI runtime specification, as containers/common writes it) less the doors.

    Raises :class:`ValueError` for what is no profile that forbids by default: such a one cannot
    be narrowed by taking out what it allows.
    """
    rules = profile.get("syscalls")
    if profile.get("defaultAction") != "SCMP_ACT_ERRNO" or not isinstance(rules, list):
        raise ValueError("it does not forbid by default")
    kept = []
    for rule in rules:
        allows = rule.get("action") == "SCMP_ACT_ALLOW"
        if allows and not (rule.get("includes") or {}).get("caps"):
            names = [x for x in rule.get("names") or () if x not in DOORS | {"clone", "clone3"}]
            rule = {**rule, "names": names}
        if rule.get("names"):
            kept.append(rule)
    same = {"index": 0, "value": _NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    kept.append({"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [same]})
    if profile.get("defaultErrnoRet") != _NO_SUCH_CALL:
        kept.append(
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _NO_SUCH_CALL, "args": []}
        )
    return {**profile, "syscalls": kept}


def narrowed_file(info: Mapping[str, Any], folder: Path) -> str:
    """The path of the narrowed profile for what ``podman info`` says, written where it is not.

    Empty where Podman is on another machine, filters nothing, or has a profile that is not to be
    read from here: then its own stays, and ``doctor --isolation`` says what that allows.
    """
    host = info.get("host") or {}
    security = host.get("security") or {}
    source = str(security.get("seccompProfilePath") or "")
    if host.get("serviceIsRemote") or not security.get("seccompEnabled") or not source:
        return ""
    try:
        with open(source, "rb") as file:
            made = json.dumps(tightened(json.loads(file.read(_LONGEST)))).encode()
    except (OSError, ValueError, AttributeError, TypeError):
        return ""
    place = folder / f"seccomp-{hashlib.sha256(made).hexdigest()[:16]}.json"
    # One that a power cut left empty would be refused, by every box, for ever.
    if not place.exists() or place.read_bytes() != made:
        temporary = folder / f".{place.name}.{os.getpid()}"
        temporary.write_bytes(made)
        os.replace(temporary, place)
    return str(place)
