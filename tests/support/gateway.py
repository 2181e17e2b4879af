"""The gateway's real program, started by a test, and what it says."""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h11

import plandock

INSIDE = Path(plandock.__file__).parent / "gateway" / "inside"
PROGRAM = INSIDE / "gateway.py"
# In the image they lie in one folder.
PATH = f"{Path(h11.__file__).parent.parent}{os.pathsep}{INSIDE.parents[1] / 'box' / 'inside'}"


_PATIENT = f"""\
import runpy, sys
sys.path.insert(0, {str(INSIDE)!r})
import dial, proxy
dial.CONNECT_TIME_S = proxy.HEADER_TIME_S = proxy.LINGER_S = 240.0
runpy.run_path({str(PROGRAM)!r}, run_name="__main__")
"""


class Gateway:
    """One gateway; its sockets lie in ``folder``, whose path must be short (107 bytes).

    ``patient``: it gives a slow machine more time than a box.
    """

    def __init__(
        self,
        folder: Path,
        *,
        allow: object,
        upstream: Mapping[str, object] | None = None,
        api: Mapping[str, object] | None = None,
        before: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        patient: bool = False,
    ) -> None:
        self.proxy, self.upstream = folder / "proxy.sock", folder / "upstream.sock"
        self.api, self.control = folder / "api.sock", folder / "control"
        wish = {
            "socket": str(self.proxy),
            "allow": allow,
            "upstream": {"socket": str(self.upstream), **upstream} if upstream else None,
            "api": {"socket": str(self.api), **api} if api else None,
            "control": str(self.control),
        }
        self.child = subprocess.Popen(
            [*before, sys.executable, "-s", *(["-c", _PATIENT] if patient else [str(PROGRAM)])],
            env={
                "PLANDOCK_GATEWAY": json.dumps(wish),
                "PYTHONPATH": PATH,
                "PATH": os.environ["PATH"],
                **(variables or {}),
            },
            stdout=subprocess.PIPE,
        )
        self.said: list[dict[str, Any]] = []
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.wait_for(lambda said: said["decision"] == "ready")
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self._lines.put(json.loads(line))

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next line of its log that is wanted; fails after two minutes without one."""
        while True:
            said = self._lines.get(timeout=120)
            self.said.append(said)
            if wanted(said):
                return said

    def decision(self) -> dict[str, Any]:
        """The next line of its log."""
        return self.wait_for(lambda said: True)

    def ask(self, request: bytes, place: Path | None = None) -> bytes:
        """What is answered to these bytes, up to the end."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(120)
            client.connect(str(place or self.proxy))
            client.sendall(request)
            answer = b""
            while data := client.recv(4096):
                answer += data
        return answer

    def tell(self, data: bytes) -> subprocess.CompletedProcess[bytes]:
        """Tell the control socket something, by the program that is in the image."""
        argv = [sys.executable, "-I", str(INSIDE / "tell_gateway.py"), str(self.control)]
        return subprocess.run(argv, input=data, capture_output=True, timeout=120, check=False)

    def close(self) -> None:
        """End it."""
        self.child.terminate()
        self.child.wait(120)
        self._reader.join(120)
        assert self.child.stdout is not None
        self.child.stdout.close()
