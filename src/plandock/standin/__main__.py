"""`python -m plandock.standin --script FILE.json`: serve until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from plandock.standin.script import Failure, ScriptError, failure_from_json, load_script
from plandock.standin.server import StandIn


def main(argv: Sequence[str] | None = None) -> int:
    """Serve a script on 127.0.0.1; prints `{"url": …}` once it listens. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m plandock.standin", description=__doc__)
    parser.add_argument("--script", type=Path, required=True, metavar="FILE.json")
    parser.add_argument("--port", type=int, default=0, help="0: any free port (default)")
    parser.add_argument("--log", type=Path, metavar="FILE.jsonl", help="one line per request")
    parser.add_argument(
        "--fail",
        action="append",
        default=[],
        metavar="KIND|JSON",
        help='a failure to begin with: overloaded, or {"kind": "usage_limit", "reset_in_s": 60}',
    )
    args = parser.parse_args(argv)
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    try:
        failures = [_failure(text) for text in args.fail]
        standin = StandIn(load_script(args.script), port=args.port, log=args.log, failures=failures)
    except ScriptError as error:
        print(f"{error.message}" + (f" ({error.hint})" if error.hint else ""), file=sys.stderr)
        return 2
    except OSError as error:
        print(f"cannot listen on port {args.port}: {error.strerror}", file=sys.stderr)
        return 1
    with standin:
        print(json.dumps({"url": standin.url}), flush=True)
        done.wait()
    return 0


def _failure(text: str) -> Failure:
    if not text.lstrip().startswith("{"):
        return failure_from_json(text)
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ScriptError(f"--fail is not JSON: {error}") from error
    return failure_from_json(data)


if __name__ == "__main__":
    sys.exit(main())
