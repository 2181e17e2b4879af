"""Command line of the benchmark: `python -m tools.bench`, one JSON object on standard output."""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.laptop import Laptop
from tools.bench import hooks
from tools.bench.boxes import FirstRequests, Watch, make_conversation
from tools.bench.ground import prepare
from tools.bench.timing import BenchError, say

ENGINE = "docker"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure everything and print the report; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="pairs (default 5)")
    parser.add_argument("--cold", action="store_true", help="throw no first pair away (a trial)")
    args = parser.parse_args(argv)
    rounds: int = args.rounds
    if rounds < 1:
        parser.error("--rounds must be at least 1")
    # Both unwind, so that no container, volume or folder stays.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory(prefix="plandock-bench-") as folder:
            cli = prepare(Path(folder), ENGINE)
            report = _measure(Path(folder), rounds, cli, cold=args.cold)
    except (BenchError, AssertionError) as error:
        say(f"failed: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    print(json.dumps(report, indent=2))
    return 0


def _measure(folder: Path, rounds: int, cli: Path, *, cold: bool) -> dict[str, Any]:
    load_before = os.getloadavg()[0]
    with Watch() as watch:
        # Set-up may have started an engine whose socket is not where the client looks by itself.
        env = {name: os.environ[name] for name in ("DOCKER_HOST",) if name in os.environ}
        calling = Laptop(folder / "hooks", cli=cli, engine=ENGINE, standin=watch, env=env)
        boxing = Laptop(folder / "boxes", cli=cli, engine=ENGINE, standin=watch, env=env)
        try:
            calling.plandock("init", "--scope", "user")
            free, beside = hooks.ordinary_calls(calling, rounds, cold=cold)
            prompt = hooks.acceptances(calling, rounds, cold=cold)
            talk = make_conversation(boxing)
            boxing.plandock("init", "--scope", "user")
            boxes = FirstRequests(boxing, watch, talk)
            first = boxes.measure(rounds, cold=cold)
        finally:
            say("cleaning up")
            try:
                calling.clean_up()
            finally:
                boxing.clean_up()
    peaks = [kib / 1024 for kib in boxes.peaks_kib]
    shell, python = "sh -c :", "python3 -I -S -c pass"
    return {
        "hook_ordinary_call": free.ratio,
        "hook_ordinary_call_other_latch": beside.ratio,
        "posttool_to_prompt": prompt.ratio,
        "acceptance_to_first_request": first.ratio,
        "supervisor_peak_memory_mib": round(statistics.median(peaks), 1),
        "details": {
            "hook_ordinary_call": free.details("PreToolUse hook, no latch", shell),
            "hook_ordinary_call_other_latch": beside.details(
                "PreToolUse hook, another session's latch", shell
            ),
            "posttool_to_prompt": prompt.details("PostToolUse hook of an acceptance", python),
            "acceptance_to_first_request": first.details(
                "PostToolUse hook started to the box's first model request",
                "claude -p --resume on the host, started to its first model request",
            ),
            "supervisor_peak_memory_mib": {
                "runs": len(peaks),
                "highest": round(max(peaks), 1),
            },
        },
        "machine": {
            "cpus": os.cpu_count(),
            "load_1m_before": round(load_before, 1),
            "load_1m_after": round(os.getloadavg()[0], 1),
            "engine": ENGINE,
            "cli": cli.parent.name,
        },
    }


if __name__ == "__main__":
    sys.exit(main())
