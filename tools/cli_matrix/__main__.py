"""Command line: `python -m tools.cli_matrix [--record] [VERSION …]`.

Fetches the versions named from npm (`latest`: the newest there), takes each through the acceptance
table in a terminal against the stand-in, and prints what it told its hooks and which of that
changed from one version to the next.  Without a version: the ends of the tested range, and the
newest.  With --record the payloads go to tests/unit/data/payloads.  Exit code 1 where plandock
would have decided otherwise than the table says.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from plandock.claude.binary import TESTED
from tests.support.hooks import PAYLOADS
from tools.cli_matrix.cases import CASES
from tools.cli_matrix.drive import record
from tools.cli_matrix.recording import Recording, save
from tools.cli_matrix.signals import Signals, signals, table, verdict
from tools.setup import cli
from tools.setup.commands import SetupError, say


def main(argv: Sequence[str] | None = None) -> int:
    """Take the versions through the table and print what they told; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.cli_matrix", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("versions", nargs="*", metavar="VERSION")
    parser.add_argument("--record", action="store_true", help="keep the payloads for the tests")
    given = parser.parse_args(argv)
    # It unwinds, so that no terminal and no CLI stays.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found: dict[str, Signals] = {}
    faults: list[str] = []
    try:
        for word in given.versions or [*TESTED, "latest"]:
            version = cli.newest() if word == "latest" else word
            if version in found:
                continue
            recordings = take(cli.fetch(version))
            found[version] = signals(recordings)
            wrong = [f"{version} {fault}" for fault in complaints(recordings)]
            if given.record and not wrong:
                for one in recordings:
                    save(one, PAYLOADS / version)
            faults += wrong
    except SetupError as error:
        print(f"cli-matrix: {error}\n  next step: {error.hint}", file=sys.stderr)
        return 1
    print(table(found))
    for fault in faults:
        print(f"cli-matrix: {fault}", file=sys.stderr)
    return 1 if faults else 0


def take(program: Path) -> list[Recording]:
    """Every case of the table with one CLI, as many at a time as there are cores."""
    with (
        tempfile.TemporaryDirectory(prefix="plandock-cli-", ignore_cleanup_errors=True) as folder,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        say(f"{len(CASES)} conversations with {program}")
        try:
            return list(pool.map(lambda c: record(program, c, Path(folder, c.name)), CASES))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # what has begun comes to its end
            raise


def complaints(recordings: Sequence[Recording]) -> list[str]:
    """Where a conversation did not come to its end, or plandock decides otherwise than it must."""
    found = []
    for case, one in zip(CASES, recordings, strict=True):
        if one.fault:
            found.append(f"{case.name}: {one.fault}")
        elif (said := verdict(one)) != case.expected:
            found.append(f"{case.name}: plandock makes of it: {said}; expected: {case.expected}")
    return found


if __name__ == "__main__":
    sys.exit(main())
