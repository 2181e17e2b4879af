"""`plandock doctor --isolation`: a real box is attacked from inside, and nothing is left of it."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from plandock import proc
from tests.e2e.test_isolation import ADD, DROP_PAIR, _wrap
from tests.e2e.test_isolation import cli as cli
from tests.support import product
from tests.support.laptop import Laptop

pytestmark = [pytest.mark.timeout(300), pytest.mark.e2e]

LESS = {
    "capabilities": (DROP_PAIR.format("--cap-drop"), "capabilities"),
    "read-only": ("words.remove('--read-only')", "root-read-only"),
    "seccomp": (ADD.format(["--security-opt", "seccomp=unconfined"]), "user-namespaces"),
    "memory": (
        DROP_PAIR.format("--memory-swap") + "; " + DROP_PAIR.format("--memory"),
        "cgroup-limits",
    ),
}


def left(engine: str) -> set[str]:
    """Containers and volumes of doctors in an engine."""
    found: set[str] = set()
    listing = (["ps", "-a", "--format", "{{.Names}}"], ["volume", "ls", "--format", "{{.Name}}"])
    for words in listing:
        said = proc.run([engine, *words]).text.split()
        found |= {name for name in said if name.startswith("plandock-doctor-")}
    return found


def test_every_attack_on_a_box_fails_and_nothing_is_left(
    make_laptop: Callable[..., Laptop], cli: Path, engine: str
) -> None:
    """Exit code 0, more than thirty checks and none of them failed, on each engine."""
    before = left(engine)
    done = make_laptop(cli, engine).plandock("doctor", "--isolation", "--json", check=False)
    found = {x["check"]: x for x in json.loads(done.stdout)}
    assert {name: x["detail"] for name, x in found.items() if x["ok"] is not True} == {}
    assert done.returncode == 0
    assert len(found) > 30
    assert {"gateway", "way-out", "process-limit", "memory-limit", "tmpfs-limit"} <= set(found)
    assert left(engine) <= before


@pytest.mark.parametrize("case", LESS)
def test_a_box_with_one_protection_less_is_named(
    make_laptop: Callable[..., Laptop], cli: Path, tmp_path: Path, case: str
) -> None:
    """Exit code 22; the check of that protection is false and says what to do."""
    change, check = LESS[case]
    before = left("docker")
    laptop = make_laptop(cli, "docker")
    _wrap(laptop, tmp_path / "bin", change)
    done = laptop.plandock("doctor", "--isolation", check=False)
    assert done.returncode == 22, (done.stdout, done.stderr)
    lines = [x for x in done.stdout.splitlines() if x.startswith(f"{check} ")]
    assert len(lines) == 1
    assert "FAILED" in lines[0]
    assert left("docker") <= before


def test_ctrl_c_leaves_nothing(make_laptop: Callable[..., Laptop], cli: Path) -> None:
    """An interrupt while the checks go on removes box, gateway and volumes all the same."""
    before = left("docker")
    laptop = make_laptop(cli, "docker")
    child = subprocess.Popen(
        product.argv("doctor", "--isolation"),
        cwd=laptop.repo.root,
        env=laptop.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline()
    assert left("docker") > before
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=120)
    assert child.returncode == 130
    time.sleep(0.5)
    assert left("docker") <= before
