"""Looks for planted secrets: in a box, in volumes, in images, in an engine's answers, on the host.

A canary is looked for as it is, as hex digits and in base64; each finding is `(canary, place)`.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.support.machine import container_words

# Runs in a container as its argument; the canaries come by standard input, each byte turned
# round, so that the searcher does not find itself.
INSIDE = r"""
import json, os, stat, sys
wish = json.load(sys.stdin)
needles = {n: bytes(255 - b for b in bytes.fromhex(h)) for n, h in wish["needles"].items()}
found, closed, looked, me = [], [], 0, str(os.getpid())
def scan(place, stream):
    tail, seen = b"", set()
    while True:
        try: data = stream.read(1 << 22)
        except OSError: break
        if not data: break
        whole = tail + data
        for name, needle in needles.items():
            if name not in seen and needle in whole:
                seen.add(name); found.append([name, place])
        tail = whole[-512:]
def file(place):
    global looked
    try:
        with open(place, "rb", buffering=0) as stream:
            looked += 1; scan(place, stream)
    except OSError: closed.append(place)
for root in wish["roots"]:
    for folder, names, files in os.walk(root, onerror=lambda e: closed.append(e.filename)):
        if folder == "/": names[:] = [n for n in names if n not in ("proc", "sys")]
        for name in files + names:
            place = os.path.join(folder, name)
            for needle, value in needles.items():
                if value in os.fsencode(name): found.append([needle, "name " + place])
            try: mode = os.lstat(place).st_mode
            except OSError: continue
            if stat.S_ISLNK(mode):
                for needle, value in needles.items():
                    if value in os.fsencode(os.readlink(place)): found.append([needle, place])
            elif stat.S_ISREG(mode): file(place)
for pid in [p for p in os.listdir("/proc") if p.isdigit() and p != me] if wish["processes"] else []:
    for part in ("environ", "cmdline"): file(f"/proc/{pid}/{part}")
    try: handles = os.listdir(f"/proc/{pid}/fd")
    except OSError: handles = []
    for handle in handles:
        place = f"/proc/{pid}/fd/{handle}"
        try:
            if stat.S_ISREG(os.stat(place).st_mode): file(place)
        except OSError: pass
    if not wish["memory"]: continue
    try:
        spans = open(f"/proc/{pid}/maps").read().splitlines()
        mem = open(f"/proc/{pid}/mem", "rb", buffering=0)
    except OSError: closed.append(f"/proc/{pid}/mem"); continue
    for span in spans:
        bounds, mode = span.split()[:2]
        low, high = (int(x, 16) for x in bounds.split("-"))
        if mode[:2] != "rw" or high - low > 1 << 30: continue
        try: mem.seek(low); data = mem.read(high - low)
        except (OSError, ValueError, OverflowError): continue
        for name, needle in needles.items():
            if needle in data: found.append([name, f"/proc/{pid}/mem"])
json.dump({"found": found, "closed": closed, "looked": looked}, sys.stdout)
"""


def canary(kind: str) -> str:
    """A token of its own: `kind` is `oat` (access, setup) or `ort` (refresh)."""
    return f"sk-ant-{kind}01-canary-{secrets.token_hex(24)}"


def needles(canaries: Mapping[str, str]) -> dict[str, bytes]:
    """What to look for: the part of each that is its own, plain, as hex, and in base64."""
    wanted: dict[str, bytes] = {}
    for name, value in canaries.items():
        own = value.rpartition("-")[2].encode()
        wanted[f"{name}:plain"] = own
        wanted[f"{name}:hex"] = own.hex().encode()
        for shift in range(3):
            coded = base64.b64encode(b"x" * shift + own)
            wanted[f"{name}:base64+{shift}"] = coded[4 : len(coded) - 4]
    return wanted


class Searcher:
    """Looks for the same canaries everywhere, with one engine."""

    def __init__(self, engine: str, canaries: Mapping[str, str]) -> None:
        self.engine = engine
        self.needles = needles(canaries)

    def _call(self, *words: str, data: bytes | None = None) -> bytes:
        done = subprocess.run(
            [self.engine, *words], input=data, capture_output=True, timeout=900, check=False
        )
        assert done.returncode == 0, f"{words[:3]}: {done.stderr.decode()[-800:]}"
        return done.stdout

    def _wish(self, roots: Iterable[str], *, processes: bool, memory: bool) -> bytes:
        turned = {n: bytes(255 - b for b in v).hex() for n, v in self.needles.items()}
        wish = {"needles": turned, "roots": list(roots), "processes": processes, "memory": memory}
        return json.dumps(wish).encode()

    def container(self, name: str, *, memory: bool = False) -> set[tuple[str, str]]:
        """Every file, link, name, environment, command line and open file in a container."""
        data = self._wish(["/"], processes=True, memory=memory)
        words = ("exec", "-i", "--user", "1000:1000", name, "python3", "-I", "-c", INSIDE)
        return self._read(self._call(*words, data=data))

    def volumes(self, names: Iterable[str], image: str) -> set[tuple[str, str]]:
        """Every file in some volumes, read as root in a container of its own."""
        words = container_words(self.engine, "run", "--rm", "-i", "--user", "0:0")
        words += ["--cap-add", "DAC_READ_SEARCH"]
        for name in names:
            words += ["--mount", f"type=volume,src={name},dst=/looked-at/{name},ro=true"]
        data = self._wish(["/looked-at"], processes=False, memory=False)
        words += ["--entrypoint", "python3", image, "-I", "-c", INSIDE]
        return self._read(self._call(*words[1:], data=data))

    @staticmethod
    def _read(said: bytes) -> set[tuple[str, str]]:
        answer = json.loads(said)
        assert answer["looked"] > 0 or not answer["closed"], answer
        return {(name.partition(":")[0], place) for name, place in answer["found"]}

    def words(self, place: str, *arguments: str) -> set[tuple[str, str]]:
        """What the engine says to a command: `inspect`, `logs`, `ps` …"""
        done = subprocess.run(
            [self.engine, *arguments], capture_output=True, timeout=900, check=True
        )
        return self.data(place, done.stdout + done.stderr)

    def data(self, place: str, data: bytes) -> set[tuple[str, str]]:
        """Some bytes."""
        return {(n.partition(":")[0], place) for n, v in self.needles.items() if v in data}

    def image(self, image: str) -> set[tuple[str, str]]:
        """An image with all its layers, as `save` streams them."""
        found: set[tuple[str, str]] = set()
        argv = [self.engine, "save", image]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
            assert child.stdout is not None
            tail, total = b"", 0
            while data := child.stdout.read(1 << 23):
                total += len(data)
                found |= self.data(f"image {image}", tail + data)
                tail = data[-512:]
        assert child.returncode == 0
        assert total > 10 << 20, "the image's layers were not there to be looked at"
        return found

    def folder(self, root: Path) -> set[tuple[str, str]]:
        """Every file below a folder of the host."""
        found = set()
        for path in root.rglob("*"):
            found |= self.data(f"name {path}", os.fsencode(path.name))
            if path.is_file() and not path.is_symlink():
                found |= self.data(str(path), path.read_bytes())
        return found

    def host_processes(self) -> set[tuple[str, str]]:
        """Command line and environment of every process of this machine that may be read."""
        found = set()
        for pid in [p for p in os.listdir("/proc") if p.isdigit()]:
            for part in ("cmdline", "environ"):
                try:
                    data = Path(f"/proc/{pid}/{part}").read_bytes()
                except OSError:
                    continue
                found |= self.data(f"/proc/{pid}/{part}", data)
        return found
