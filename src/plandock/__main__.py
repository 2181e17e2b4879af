"""The console script.  ``plandock hook`` goes its own way, with the few imports that it needs."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    if sys.argv[1:2] == ["hook"] and not {"--help", "-h"} & set(sys.argv[2:]):
        from plandock.hook.entry import main as hook

        return hook()
    import signal

    # Ctrl-C while modules are being loaded ends the process without a word, as it is to.
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from plandock.cli.app import main as cli

    signal.signal(signal.SIGINT, before)
    return cli()


if __name__ == "__main__":
    sys.exit(main())
