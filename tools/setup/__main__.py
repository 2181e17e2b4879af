"""Command line of the set-up: `python -m tools.setup STEP…`, and the whole of demo and test."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tools.setup import base_image, box_images, cli, daemon, engines, wheel
from tools.setup.commands import SetupError, apt_install, have, say
from tools.setup.folder import CLONE, in_use, locked, read_env, unused

EXTRA_PROGRAMS = {"git": "git", "tmux": "tmux"}
if sys.platform == "linux":
    EXTRA_PROGRAMS["ip"] = "iproute2"
"""Programs that tests need beside the engines, and the Debian packages they come from."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the arguments name; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.setup", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("step", choices=[*STEPS, "test", "demo", "all", "env", "stop"])
    parser.add_argument("--live", action="store_true", help="demo: with your own Claude login")
    given, for_pytest = parser.parse_known_args(argv)
    if for_pytest and given.step != "test":
        parser.error(f"unknown argument: {for_pytest[0]}")
    # `make` is stopped with SIGTERM as often as with Ctrl-C; both unwind and stop the daemon.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        match given.step:
            case "test":
                return _test(for_pytest)
            case "demo":
                return _demo(given.live)
            case "env":
                print("".join(f"{k}={v}\n" for k, v in read_env().items()), end="")
            case "stop":
                _stop()
            case "all":
                _set_up(engines.asked_for(), list(STEPS))
            case step:
                _set_up(engines.asked_for(), [step])
    except SetupError as error:
        print(f"setup: {error}\n  next step: {error.hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _programs(_: tuple[str, ...]) -> None:
    missing = [package for name, package in EXTRA_PROGRAMS.items() if not have(name)]
    if missing:
        apt_install(missing, "programs for tests")


def _base_image(names: tuple[str, ...]) -> None:
    base_image.ensure(names)
    for name in names:
        engines.container_runs(name, base_image.IMAGE)
    if "docker" in names:
        engines.bridge_works(base_image.IMAGE)


def _wheel(_: tuple[str, ...]) -> None:
    # What was built is what the tests of this process test, whatever is edited meanwhile.
    os.environ["PLANDOCK_TEST_PROGRAM"] = str(wheel.ensure().program)


STEPS: dict[str, Callable[[tuple[str, ...]], None]] = {
    "programs": _programs,
    "engines": engines.ensure,
    "base-image": _base_image,
    "cli": lambda _: cli.ensure(),
    "box-images": box_images.ensure,
    "wheel": _wheel,
}


def _set_up(names: tuple[str, ...], steps: Sequence[str]) -> None:
    with locked("setup"):
        for step in steps:
            began = time.monotonic()
            STEPS[step](names)
            if (took := time.monotonic() - began) > 5:
                say(f"({step} took {took:.0f} s)")


def _stop() -> None:
    """Stop what set-up started, unless another `make` in this clone still uses it."""
    with unused() as nobody:
        if nobody:
            daemon.stop()
        elif daemon.ours():
            say("Docker: the daemon stays, another make in this clone uses it")


def _test(pytest_arguments: Sequence[str]) -> int:
    from tools.check import lint, run_checks

    try:
        with in_use(), ThreadPoolExecutor(1) as beside:
            # The set-up waits for downloads and engines most of its time.
            linted = beside.submit(lint)
            _set_up(engines.asked_for(), list(STEPS))
            code, closing = run_checks(linted.result(), pytest_arguments)
    finally:
        _stop()
    print(closing)
    return code


def _demo(live: bool) -> int:
    """Set up one engine at least, and the CLI, then run `plandock demo`.

    The daemon started for it stays: the demo's run is there to be looked at afterwards.
    """
    with in_use():
        names = engines.ready()[:1] or ("docker",)
        _set_up(names, ["programs", "engines", "base-image", "cli"])
        variables = read_env()
        child = {**os.environ}
        for key in ("DOCKER_HOST", "CONTAINER_HOST", "CONTAINER_SSHKEY"):
            if key in variables:
                child.setdefault(key, variables[key])
        if not (live and shutil.which("claude")):
            child.setdefault("PLANDOCK_CLAUDE", variables["PLANDOCK_TEST_CLI_NEWEST"])
        argv = [str(CLONE / ".venv/bin/plandock"), "demo", *(["--live"] if live else [])]
        code = subprocess.run(argv, env=child, check=False).returncode
    if daemon.ours():
        say("Docker: the daemon that set-up started is still running; `make stop` ends it")
    return code


if __name__ == "__main__":
    sys.exit(main())
