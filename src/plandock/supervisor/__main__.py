"""The supervisor's process: ``python -I …/supervisor/__main__.py RUN``; disposable."""

from __future__ import annotations

import os
import sys

if not __package__:  # started as a script: plandock lies two folders up
    sys.path[:] = [p for p in sys.path if not p.endswith("/plandock/supervisor")]
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from plandock.supervisor.drive import drive

if __name__ == "__main__":
    sys.exit(drive(sys.argv[1]))
