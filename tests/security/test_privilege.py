"""Attacks: becoming more than the agent's user, or getting out of the box by the kernel's doors.

99 payloads in the product's own box with its real steward; the same in an open container of the
same image is the control of each.  What a hole of the kernel's own would give is not promised.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from plandock.engines import detect
from plandock.settings.keys import Settings
from tests.security.payloads import Payload, cases
from tests.security.privilege_cell import Cell, Said
from tests.security.privilege_payloads import EVERY, NAMESPACES
from tests.support.boxes import Box

pytestmark = [
    pytest.mark.split_by("engine"),
    pytest.mark.timeout(1800),
    pytest.mark.skipif(sys.platform != "linux", reason="the controls need this machine's kernel"),
]

# What nobody in a container may change: read on the host, before and afterwards.
HOSTS_OWN = ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe",
             "/proc/sys/vm/swappiness", "/proc/sys/kernel/hostname", "/proc/swaps",
             "/etc/passwd", "/etc/hosts", "/etc/ld.so.preload")  # fmt: skip


def hosts_own() -> dict[str, str]:
    """What stands in those files; nothing where there is none."""
    return {x: Path(x).read_text() for x in HOSTS_OWN if os.path.exists(x)}


@dataclass
class Tried:
    """One engine's containers, what every payload said in both, and the machine around them."""

    cell: Cell
    attack: dict[str, Said]
    control: dict[str, Said]
    host: tuple[dict[str, str], dict[str, str]]
    probe: dict[str, object]


@pytest.fixture(scope="module")
def everything() -> Iterator[dict[str, Tried]]:
    """The attempts of this file, by engine."""
    made: dict[str, Tried] = {}
    yield made
    for tried in made.values():
        tried.cell.close()


@pytest.fixture
def tried(
    engine: str,
    everything: dict[str, Tried],
    tmp_path_factory: pytest.TempPathFactory,
    base_image: str,
) -> Tried:
    """Every payload has been run in the box, and its control in the open container."""
    if engine not in everything:
        cell = Cell(engine, tmp_path_factory.mktemp("cell"), base_image)
        try:
            cell.build()
            before = hosts_own()
            attack = cell.attack(EVERY)
            checks: dict[str, object] = {x: y["ok"] for x, y in cell.box.probe().items()}
            host = (before, hosts_own())
            everything[engine] = Tried(cell, attack, cell.control(EVERY), host, checks)
        except BaseException:
            cell.close()
            raise
    return everything[engine]


@pytest.mark.parametrize("payload", cases(EVERY))
def test_an_attempt_gains_nothing(tried: Tried, payload: Payload) -> None:
    """It ran to its end in the box and did not get what, in an open container, it does get."""
    said = tried.attack[payload.name]
    assert said.code != 124, f"it did not end: {said}"
    assert not said.gained, said
    assert tried.control[payload.name].gained, tried.control[payload.name]


def test_after_all_attempts_box_and_host_are_what_they_were(tried: Tried) -> None:
    """The box's own probe finds it as ordered, its steward lives, the host's files are the same."""
    assert [name for name, ok in tried.probe.items() if ok is False] == []
    assert len(tried.probe) >= 18
    assert tried.host[0] == tried.host[1]
    assert len(tried.host[0]) >= 5
    listed = tried.cell.box.python("import os; print(open('/proc/1/cmdline').read())").stdout
    assert "steward.py" in listed
    assert tried.cell.box.alive()


@pytest.mark.parametrize("engine", ["podman"], indirect=True)
def test_where_user_namespaces_can_be_made_nothing_is_gained_in_them(
    tried: Tried, engine: str
) -> None:
    """Podman's own filter lets them be made; it is in force where it is on another machine."""
    chosen = detect.choose(engine)
    chosen.__dict__["dialect"] = replace(tried.cell.engine.dialect, seccomp="")
    box = Box(chosen, tried.cell.image, Settings())
    cell = tried.cell
    before, cell.box = cell.box, box
    try:
        box.start(argv=box.spec.argv)
        said = cell.attack((*NAMESPACES, Payload("control", "unshare -U true && echo gained-it")))
    finally:
        cell.box = before
        box.remove()
    assert {name: x for name, x in said.items() if x.gained or x.code == 124} == {
        "control": Said(0, "gained-it\n")
    }


# The engine's own program, while it starts something in the box (CVE-2019-5736)

WATCH = """
import os, sys, time
mine, end, seen = os.getpid(), time.monotonic() + 1200, set()
print("watching", flush=True)
while time.monotonic() < end and not os.path.exists("/tmp/watch-over"):
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) == mine:
            continue
        try:
            with open(f"/proc/{pid}/comm") as file:
                name = file.read().strip()
            if name.startswith(("runc", "crun", "youki")):
                seen.add(name)
                got = os.open(f"/proc/{pid}/exe", os.O_RDONLY)
                path = os.readlink(f"/proc/self/fd/{got}")
                # It may have become the program that was asked for in between.
                if not os.path.isfile(path) or not os.path.samestat(os.stat(path), os.fstat(got)):
                    print("gained-it", name, path, flush=True)
                    sys.exit()
                os.close(got)
        except OSError:
            continue
print("seen" if seen else "missed", flush=True)
"""


def watched(cell: Cell, container: str, user: str, enough: int) -> str:
    """What a watcher in a container says while others are started there, so often or until it
    has what it wants."""
    child = cell.engine.open_exec(container, ["python3", "-I", "-c", WATCH], user=user)
    assert child.stdout is not None
    try:
        lines = [child.stdout.readline().decode()]
        rest = threading.Thread(target=lambda: lines.extend(x.decode() for x in child.stdout or ()))
        rest.start()
        for _ in range(enough):
            cell.engine.exec(container, ["true"], user=user)
            if not rest.is_alive():
                break
        cell.engine.exec(container, ["touch", "/tmp/watch-over"], user=user)
        rest.join(1300)
        return "".join(lines)
    finally:
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream is not None:
                stream.close()


def test_the_engines_program_cannot_be_taken_hold_of(tried: Tried) -> None:
    """While programs are started in it, the box cannot open the runtime's; root elsewhere can."""
    place = subprocess.run(["which", "runc"], capture_output=True, text=True, check=False).stdout
    runtime = Path(place.strip()) if place.strip() else None
    before = hashlib.sha256(runtime.read_bytes()).hexdigest() if runtime else ""
    said = watched(tried.cell, tried.cell.box.name, "1000:1000", 12)
    assert "gained-it" not in said
    assert said.startswith("watching\n")
    assert "gained-it" in watched(tried.cell, tried.cell.opened.name, "0:0", 200)
    assert before == (hashlib.sha256(runtime.read_bytes()).hexdigest() if runtime else "")


def test_the_payloads_can_be_sent_as_they_are() -> None:
    """Nothing of them is lost on the way into a container: names are unique, commands are text."""
    assert len({x.name for x in EVERY}) == len(EVERY) >= 35
    assert json.loads(json.dumps([x.command for x in EVERY])) == [x.command for x in EVERY]
