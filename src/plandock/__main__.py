"""The console script.  ``plandock hook`` goes its own way, with the few imports that it needs."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    if sys.argv[1:2] == ["hook"] and not {"--help", "-h"} & set(sys.argv[2:]):
        from plandock.hook.entry import main as hook

        return hook()
    from plandock.cli.app import main as cli

    return cli()


if __name__ == "__main__":
    sys.exit(main())
