"""The checks behind `make lint` and `make test`, each run to its end, one verdict."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from tools.setup.folder import CLONE, read_env

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


def run_tests(arguments: Sequence[str]) -> tuple[int, str]:
    """Run pytest and pass on what it prints; its exit code and its closing line.

    A file's tests run one after another on one worker: what the file makes for all of them (boxes,
    a world around them) is made once, and those that look at a whole engine for what they left do
    not meet each other.  (xdist 3.8 makes no groups with pytest 9.2: `loadgroup` is no help.)
    """
    argv = _python("pytest", "-n", "2", "--dist", "loadfile", *arguments)
    environment = {**os.environ, **read_env()}
    closing = ""
    with subprocess.Popen(
        argv, cwd=CLONE, env=environment, stdout=subprocess.PIPE, text=True, errors="replace"
    ) as child:
        assert child.stdout is not None, "standard output was asked for"
        for line in child.stdout:
            print(line, end="", flush=True)
            closing = line.strip() or closing
    return child.returncode, closing


def run_checks(pytest_arguments: Sequence[str]) -> tuple[int, str]:
    """Lint, then test whatever lint said; the exit code of both and pytest's closing line."""
    failed = lint()
    code, closing = run_tests(pytest_arguments)
    if failed:
        print(f"check: failed before the tests: {', '.join(failed)}", flush=True)
    return code or (1 if failed else 0), closing


if __name__ == "__main__":
    sys.exit(1 if lint() else 0)
