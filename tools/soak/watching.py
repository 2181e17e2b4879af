"""While runs go: what their supervisors need of the machine, seen from outside."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Self

from plandock.runs.store import Store
from tools.bench.boxes import peak_kib

_LOOK_S = 0.1


class Supervisors:
    """Notes the peak of memory and the most open files of each run's supervisors.

    A peak of memory stays to be read until the process ends, so the looks may be seldom.
    """

    def __init__(self, store: Path) -> None:
        self.peak_kib: dict[str, int] = defaultdict(int)
        self.open_files: dict[str, int] = defaultdict(int)
        self._store = store
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_S):
            if not self._store.exists():
                continue
            with Store(self._store) as store:
                while not self._over.wait(_LOOK_S):
                    for run in store.list(unfinished=True):
                        if run.supervisor_pid:
                            self._look(str(run.id), run.supervisor_pid)

    def _look(self, run: str, pid: int) -> None:
        self.peak_kib[run] = max(self.peak_kib[run], peak_kib(pid))
        try:
            count = len(os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            return
        self.open_files[run] = max(self.open_files[run], count)
