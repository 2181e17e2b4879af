"""The checks behind `make lint` and `make test`, each run to its end, one verdict."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.setup.folder import CLONE, read_env

DURATIONS = CLONE / "tests/durations.json"
QUICK = ("tests/unit", "tests/git", "-q", "--quick", "-n", str((os.cpu_count() or 2) + 1))
"""What `make quick` tests unless told otherwise."""
WORKERS = 3
"""One more than the cores of the machine that this suite is made for: tests wait a good deal."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # ours alone is a folder below it
IN_MEMORY_BYTES = 2 << 30
"""Several times what the quick tests leave lying until their end."""

LINT: dict[str, list[str]] = {
    "ruff": ["ruff", "check", "--quiet", "--output-format", "concise", "."],
    "format": ["ruff", "format", "--quiet", "--check", "--output-format", "concise", "."],
    "mypy": ["mypy", "--no-error-summary"],
    "imports": ["tools.check_imports"],
}


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def lint() -> list[str]:
    """Run every static check; the names of those that failed."""
    failed = []
    for name, (module, *arguments) in LINT.items():
        began = time.monotonic()
        code = subprocess.run(_python(module, *arguments), cwd=CLONE, check=False).returncode
        verdict = "ok" if code == 0 else "FAILED"
        print(f"check: {name} {verdict} ({time.monotonic() - began:.1f} s)", flush=True)
        if code != 0:
            failed.append(name)
    return failed


def pytest_argv() -> list[str]:
    """How the suite is started: with our scheduler (`tools/schedule.py`) and several workers."""
    workers = os.environ.get("PLANDOCK_TEST_WORKERS") or str(WORKERS)
    return _python("pytest", "-n", workers, "--durations=20", "--durations-min=1")


def test_environment() -> dict[str, str]:
    """The environment of the suite: this one, and what set-up has recorded.

    Programs of ours that tests start keep their bytecode, whatever a container's image says.
    """
    environment = {**os.environ, **read_env()}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


@contextmanager
def temporary_files_in_memory() -> Iterator[dict[str, str]]:
    """The environment that puts temporary files into memory, where this machine has the room.

    Tests of git make some 40,000 files, and a disk's journal is a fifth of what that costs.
    """
    fits = SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free >= IN_MEMORY_BYTES
    if not fits or "TMPDIR" in os.environ:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="plandock-quick-", dir=SHARED_MEMORY) as folder:
        os.chmod(folder, 0o1777)  # noqa: S103  # as /tmp: some tests go on as another user
        yield {"TMPDIR": folder}


def run_tests(arguments: Sequence[str]) -> tuple[int, str]:
    """Run pytest and pass on what it prints; its exit code and its closing line.

    In CI, the durations of the units are written anew after the whole suite.
    """
    argv = [*pytest_argv(), *arguments]
    if os.environ.get("CI") and not arguments:
        argv.append(f"--durations-file={DURATIONS}")
    closing = ""
    with subprocess.Popen(
        argv,
        cwd=CLONE,
        env=test_environment(),
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as child:
        assert child.stdout is not None, "standard output was asked for"
        for line in child.stdout:
            print(line, end="", flush=True)
            closing = line.strip() or closing
    return child.returncode, closing


def run_checks(failed: Sequence[str], pytest_arguments: Sequence[str]) -> tuple[int, str]:
    """Test, whatever lint said; the exit code of both and pytest's closing line.

    ``failed`` names the static checks that did.
    """
    code, closing = run_tests(pytest_arguments)
    if failed:
        print(f"check: failed before the tests: {', '.join(failed)}", flush=True)
    return code or (1 if failed else 0), closing


def quick(arguments: Sequence[str]) -> int:
    """Lint beside the tests that need no engine; 0 where both are well."""
    argv = [*pytest_argv(), *(arguments or QUICK)]
    with temporary_files_in_memory() as memory:
        environment = {"HYPOTHESIS_PROFILE": "quick"} | test_environment() | memory
        with subprocess.Popen(argv, cwd=CLONE, env=environment) as tests:
            failed = lint()
    if failed:
        print(f"check: failed beside the tests: {', '.join(failed)}", flush=True)
    return tests.returncode or (1 if failed else 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["quick"]:
        sys.exit(quick(sys.argv[2:]))
    sys.exit(1 if lint() else 0)
