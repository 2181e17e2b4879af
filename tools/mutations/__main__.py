"""Command line: `python -m tools.mutations`; exit code 1 if a rule is not shown to be guarded."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict

from tools.mutations.hand_off import HAND_OFF
from tools.mutations.keeping import KEEPING
from tools.mutations.mutation import Mutation
from tools.mutations.sealing import SEALING
from tools.mutations.trial import Result, Trials
from tools.setup.folder import CLONE

MUTATIONS: tuple[Mutation, ...] = (*HAND_OFF, *SEALING, *KEEPING)


def main(argv: Sequence[str] | None = None) -> int:
    """Try the mutations that are named (all of them by default) and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.mutations", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--list", action="store_true", help="show them, and try none")
    parser.add_argument("--json", action="store_true", help="one JSON list instead of the table")
    parser.add_argument("--at-once", type=int, default=2, metavar="N", help="default 2")
    args = parser.parse_args(argv)
    known = {mutation.name: mutation for mutation in MUTATIONS}
    if unknown := [name for name in args.names if name not in known]:
        parser.error(f"there is no {', '.join(unknown)}; --list shows what there is")
    if args.at_once < 1:
        parser.error("--at-once must be at least 1")
    chosen = [known[name] for name in dict.fromkeys(args.names)] or list(MUTATIONS)
    if args.list:
        for mutation in chosen:
            print(f"| {mutation.name} | {mutation.promise} | {mutation.layer} | {mutation.why} |")
        return 0
    # Before the first is tried: what does not fit the code is mended, not waited for.
    if faults := [fault for mutation in chosen for fault in mutation.faults(CLONE)]:
        print("\n".join(faults), file=sys.stderr)
        return 2
    # Both unwind, also where a shell in the background had Ctrl-C ignored: pytest inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results = try_all(chosen, Trials(CLONE), args.at_once, quiet=args.json)
    if args.json:
        json.dump([asdict(result) for result in results], sys.stdout, indent=2)
        print()
    bad = [result for result in results if result.kind != "caught"]
    print(f"{len(results) - len(bad)} of {len(results)} broken rules were caught", file=sys.stderr)
    return 1 if bad else 0


def try_all(
    chosen: Sequence[Mutation], trials: Trials, at_once: int, *, quiet: bool = False
) -> list[Result]:
    """The results in the order of ``chosen``; a row is printed as soon as it is known.

    Where this is interrupted, or fails, the tests under way are ended and their copies removed.
    """
    found: dict[str, Result] = {}
    with ThreadPoolExecutor(at_once) as pool:
        under_way = [pool.submit(trials.run, mutation) for mutation in chosen]
        try:
            if not quiet:
                print("| name | promise | layer | caught by | seconds |", flush=True)
                print("|---|---|---|---|---|", flush=True)
            for done in as_completed(under_way):
                result = done.result()
                found[result.name] = result
                if not quiet:
                    print(row(result), flush=True)
        except BaseException:
            for waiting in under_way:
                waiting.cancel()
            trials.stop()
            raise
    return [found[mutation.name] for mutation in chosen]


def row(result: Result) -> str:
    """One line of the table, which is Markdown."""
    by = f"`{result.test}`"
    if result.kind != "caught":
        by = f"**{result.kind}** {result.test} {result.why}"
    words = (result.name, str(result.promise), result.layer, by, f"{result.seconds:.1f}")
    return f"| {' | '.join(words)} |"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
