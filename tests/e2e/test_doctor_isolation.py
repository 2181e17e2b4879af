"""`plandock doctor --isolation`: a real box is attacked from inside, and nothing is left of it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from plandock import proc
from tests.support import product
from tests.support.engine_wrapper import ADD, DROP_PAIR, wrap
from tests.support.pairs import DOCKER, PAIRS
from tests.support.run_batch import CaseResult, cases, looks_at
from tests.support.run_batch import batch as batch
from tests.support.run_batch import case as case

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e, pytest.mark.engine]

LESS = {
    "capabilities": (DROP_PAIR.format("--cap-drop"), "capabilities"),
    "read-only": ("words.remove('--read-only')", "root-read-only"),
    "seccomp": (ADD.format(["--security-opt", "seccomp=unconfined"]), "user-namespaces"),
    "memory": (
        DROP_PAIR.format("--memory-swap") + "; " + DROP_PAIR.format("--memory"),
        "cgroup-limits",
    ),
}
# A process that ignores an interrupt, as one in the background does, hands that on.
DOCTOR = product.argv("doctor", "--isolation")


def left(engine: str, calls: Path) -> set[str]:
    """Containers and volumes that are there of the doctor whose calls to the engine these are;
    others' doctors may be at work beside it."""
    marks = set(re.findall(r"plandock-doctor-[0-9a-f]+", calls.read_text()))
    assert marks
    listing = (["ps", "-a", "--format", "{{.Names}}"], ["volume", "ls", "--format", "{{.Name}}"])
    names = [name for words in listing for name in proc.run([engine, *words]).text.split()]
    return {name for name in names if name.startswith(tuple(marks))}


def attack_a_whole_box(result: CaseResult) -> None:
    """With every protection in place."""
    calls = wrap(result.laptop, result.folder / "bin")
    result.seen["done"] = result.laptop.plandock("doctor", "--isolation", "--json", check=False)
    result.seen["left"] = left(result.laptop.engine, calls)


def attack_a_box_with_one_protection_less(result: CaseResult) -> None:
    """With that of the case taken away."""
    change, _ = LESS[result.case.name]
    calls = wrap(result.laptop, result.folder / "bin", change)
    result.seen["done"] = result.laptop.plandock("doctor", "--isolation", check=False)
    result.seen["left"] = left(result.laptop.engine, calls)


def interrupt_the_attack(result: CaseResult) -> None:
    """Ctrl-C as soon as the first check is told."""
    laptop, seen = result.laptop, result.seen
    calls = wrap(laptop, result.folder / "bin")
    with subprocess.Popen(
        DOCTOR, cwd=laptop.repo.root, env=laptop.env, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline()
        seen["there"] = left(laptop.engine, calls)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=600)
    seen["code"] = child.returncode
    seen["left"] = left(laptop.engine, calls)


CASES = [
    *cases("whole", attack_a_whole_box, among=PAIRS),
    *(
        attack
        for name in LESS
        for attack in cases(name, attack_a_box_with_one_protection_less, among=DOCKER)
    ),
    *cases("interrupted", interrupt_the_attack, among=DOCKER),
]


@looks_at(CASES, "whole")
def test_every_attack_on_a_box_fails_and_nothing_is_left(case: CaseResult) -> None:
    """Exit code 0, more than thirty checks and none of them failed, on each engine."""
    done = case.seen["done"]
    found = {x["check"]: x for x in json.loads(done.stdout)}
    assert {name: x["detail"] for name, x in found.items() if x["ok"] is not True} == {}
    assert done.returncode == 0
    assert len(found) > 30
    assert {"gateway", "way-out", "process-limit", "memory-limit", "tmpfs-limit"} <= set(found)
    assert case.seen["left"] == set()


@looks_at(CASES, *LESS)
def test_a_box_with_one_protection_less_is_named(case: CaseResult) -> None:
    """Exit code 22; the check of that protection is false and says what to do."""
    _, check = LESS[case.case.name]
    done = case.seen["done"]
    assert done.returncode == 22, (done.stdout, done.stderr)
    lines = [x for x in done.stdout.splitlines() if x.startswith(f"{check} ")]
    assert len(lines) == 1
    assert "FAILED" in lines[0]
    assert case.seen["left"] == set()


@looks_at(CASES, "interrupted")
def test_ctrl_c_leaves_nothing(case: CaseResult) -> None:
    """An interrupt while the checks go on removes box, gateway and volumes all the same."""
    assert case.seen["there"]
    assert case.seen["code"] == 130
    assert case.seen["left"] == set()
