"""The coverage-guided fuzzer of the gateway, for a bounded number of inputs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FUZZER = Path(__file__).parents[1] / "fuzz" / "gateway_head.py"
SEEDS = [
    b"CONNECT good.example.org:443 HTTP/1.1\r\nHost: good.example.org\r\n\r\n",
    b"CONNECT a.wild.example.org.:443 HTTP/1.0\r\n\r\n",
    b"\0::ffff:10.0.0.1",
    b"\x0093.184.216.34",
    b"\1POST /v1/messages?beta=true HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    b"\1HEAD / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, x-y\r\n\r\n",
]


@pytest.mark.skipif(sys.platform != "linux", reason="atheris is for Linux")
def test_no_input_of_the_fuzzer_gets_through_or_breaks_the_rules(tmp_path: Path) -> None:
    """Twenty thousand inputs end without a finding; the fuzzer's exit code says so."""
    for number, seed in enumerate(SEEDS):
        (tmp_path / str(number)).write_bytes(seed)
    argv = [sys.executable, str(FUZZER), "-runs=20000", "-max_total_time=20", "-max_len=2048",
            f"-dict={FUZZER.with_suffix('.dict')}", f"-artifact_prefix={tmp_path}/",
            str(tmp_path)]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done" in done.stderr
