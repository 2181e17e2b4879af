"""Docker and Podman for real: the same sealed container and the same answers on both."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from plandock import proc
from plandock.engines import detect, quick
from plandock.engines.command_line import CommandLineEngine
from plandock.engines.protocol import (
    NotThere,
    Tmpfs,
    VolumeMount,
)
from plandock.errors import EngineError
from tests.engine.yard import LET_GO, PATIENCE_S, UNTIL_LET_GO, Reader, Yard

pytestmark = pytest.mark.timeout(900)
SCRATCH = (Tmpfs("/tmp", 1 << 20),)


def test_answers(yard: Yard, engine: str) -> None:
    """An engine that is there gives its version, its architecture, and seems up to the hook."""
    assert yard.engine.name == engine
    assert yard.engine.ping()[0].isdigit()
    assert yard.engine.architecture() in ("x64", "arm64")
    assert quick.quick_check(engine) is None
    assert detect.choose("auto").name == "docker" or engine == "podman"


def test_sealed_by_default(yard: Yard) -> None:
    """A container has no capability, no network, no writable root and no other user to become."""
    script = (
        "id -u; id -g; grep -E '^(Cap|NoNewPrivs)' /proc/self/status; ls /sys/class/net;"
        "touch /x /run/x /var/tmp/x /etc/x /dev/shm/../x 2>&1 | grep -c 'Read-only\\|denied'"
    )
    said = yard.engine.run(yard.spec(script), check=False).text.split()
    assert said[:2] == ["1000", "1000"]
    facts = dict(zip(said[2:14:2], said[3:14:2], strict=True))
    assert facts.pop("NoNewPrivs:") == "1"
    assert set(facts.values()) == {"0" * 16}
    assert len(facts) == 5
    assert said[14:] == ["lo", "5"]


def test_no_mount_but_the_named_ones(yard: Yard) -> None:
    """What the engine says is mounted is what was asked for, and nothing of the host."""
    volume = yard.volume()
    spec = yard.spec("true", volumes=(VolumeMount(volume, "/work"),))
    yard.engine.create(spec)
    mounts = [m for m in yard.state(spec.name).mounts if m.kind != "tmpfs"]
    assert [(m.kind, m.name, m.path, m.writable) for m in mounts] == [
        ("volume", volume, "/work", True)
    ]


PATHS = (
    "/home/me/a b",
    "/srv/one,two",
    '/srv/say "hi"',
    '/srv/",x="y',
    "/srv/c:d:ro",
    "/srv/Füße/日本",
    "/srv/back\\slash",
    "/srv/it's",
    "/srv/line\nfeed",
    "/srv/ro=true",
    "/srv/ end ",
    "/root/deep/$HOME/*",
)


def test_paths_of_workspaces(yard: Yard) -> None:
    """A volume can lie at the very path that a repository has on the host, whatever it holds."""
    volumes = [VolumeMount(yard.volume(f"v{n}"), path) for n, path in enumerate(PATHS)]
    script = 'for path do printf \'in %s;\' "$path" > "$path/file" || exit 1; done'
    spec = yard.spec("", argv=("sh", "-c", script, "sh", *PATHS))
    yard.engine.run(replace(spec, volumes=tuple(volumes), user="0:0"))
    volumes = [replace(volume, read_only=True) for volume in volumes]
    spec = replace(spec, volumes=tuple(volumes), user="0:0")
    said = yard.engine.run(replace(spec, argv=("cat", *(f"{path}/file" for path in PATHS)))).text
    assert said == "".join(f"in {path};" for path in PATHS)
    finished = yard.engine.run(
        replace(spec, argv=("touch", *(f"{path}/other" for path in PATHS))), check=False
    )
    assert finished.returncode != 0
    assert finished.stderr.count(b"Read-only file system") == len(PATHS)


def test_path_that_cannot_be_mounted(yard: Yard) -> None:
    """A path that is not UTF-8 is refused before the engine is asked."""
    spec = yard.spec("true", volumes=(VolumeMount(yard.volume(), "/caf\udce9"),))
    with pytest.raises(EngineError, match="UTF-8"):
        yard.engine.create(spec)


def test_tmpfs(yard: Yard) -> None:
    """A tmpfs has its mode and size, begins empty, and runs programs only where it may."""
    tmpfs = (Tmpfs("/tmp", 1 << 20), Tmpfs("/scratch", 1 << 20, 0o1777, exec=True))
    script = (
        "stat -c %a /tmp /scratch; ls -A /tmp | wc -l;"
        "for d in /tmp /scratch; do cp /bin/true $d/t; $d/t && echo ran; done;"
        "head -c 2000000 /dev/zero > /tmp/big || echo full"
    )
    finished = yard.engine.run(yard.spec(script, tmpfs=tmpfs), check=False)
    assert finished.text.split() == ["1777", "1777", "0", "ran", "full"]


def test_limits(yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory and processes are bounded: what takes more is ended, and no file is left behind.

    Podman's conmon writes one into the working directory, which may be the user's repository.
    """
    monkeypatch.chdir(tmp_path)
    name = yard.started(
        "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null;exec tail /dev/zero",
        memory_bytes=64 << 20,
        pids_limit=32,
        cpus=1.0,
    )
    assert yard.engine.wait(name, PATIENCE_S) == 137
    if yard.engine.name == "docker":  # Podman 4.3 loses that fact
        assert yard.state(name).oom_killed
    with contextlib.closing(Reader(yard.engine.logs(name))) as logs:
        assert logs.whole() == b"32\n"
    assert list(tmp_path.iterdir()) == []


def test_stdin_to_stdout(yard: Yard) -> None:
    """Megabytes of any bytes go through a one-shot container whole, and it leaves nothing."""
    data = secrets.token_bytes(1 << 20) * 8
    spec = yard.spec("cat", stdin_open=True)
    finished = yard.engine.run(spec, stdin=data)
    assert hashlib.sha256(finished.stdout).digest() == hashlib.sha256(data).digest()
    assert yard.engine.inspect(spec.name) is None


def test_conversation_with_a_run(yard: Yard) -> None:
    """A run's streams are a child's: one line in, one line out, and its end at end of input."""
    child = yard.engine.open_run(yard.spec("while read x; do echo got $x; done", stdin_open=True))
    assert child.stdin is not None
    assert child.stdout is not None
    with contextlib.closing(Reader(child)):
        for word in (b"one", b"two"):
            child.stdin.write(word + b"\n")
            child.stdin.flush()
            assert child.stdout.readline() == b"got " + word + b"\n"
        child.stdin.close()
        assert child.stdout.read() == b""
        assert proc.end(child, grace_s=PATIENCE_S) == 0


def test_run_that_fails(yard: Yard) -> None:
    """A program's own exit code comes back; with `check` it is an error of the engine's kind."""
    spec = yard.spec("echo why >&2; exit 7")
    finished = yard.engine.run(spec, check=False)
    assert (finished.returncode, finished.stderr.strip()) == (7, b"why")
    with pytest.raises(EngineError, match="why"):
        yard.engine.run(spec)


def test_run_that_takes_too_long(yard: Yard) -> None:
    """When the time runs out the container is removed too, not only the client."""
    spec = yard.spec("sleep 600")
    with pytest.raises(EngineError, match="did not answer"):
        yard.engine.run(spec, timeout_s=15.0)  # a slow engine has made it by then
    assert yard.engine.inspect(spec.name) is None


def test_a_container_that_a_killed_client_made_late_is_made_anew(yard: Yard) -> None:
    """One that was made and never started is nobody's; one that runs stays, and is an error."""
    spec = yard.spec(f"{UNTIL_LET_GO}; exit 3", tmpfs=SCRATCH)
    first = yard.engine.create(spec)
    second = yard.engine.create(spec)
    assert second != first
    yard.engine.start(spec.name)
    with pytest.raises(EngineError, match="in use"):
        yard.engine.create(spec)
    assert yard.state(spec.name).id == second


def test_life_of_a_container(yard: Yard) -> None:
    """Created, running, exited with its code and times; then it can be started again."""
    script = f"{UNTIL_LET_GO}; exit 3"
    spec = yard.spec(script, hostname="box", env={"A": "b c"}, tmpfs=SCRATCH)
    id = yard.engine.create(spec)
    state = yard.state(spec.name)
    assert (state.state, state.exit_code, state.id) == ("created", None, id)
    assert state.labels["plandock.test"] == yard.mark
    assert state.name == spec.name
    began = time.monotonic()
    yard.engine.start(spec.name)
    yard.engine.start(spec.name)
    assert yard.state(spec.name).running
    assert yard.engine.wait(spec.name, 0.3) is None
    yard.engine.exec(spec.name, LET_GO)
    assert yard.engine.wait(spec.name, PATIENCE_S) == 3
    lived_at_most_s = time.monotonic() - began
    state = yard.state(spec.name)
    assert (state.state, state.exit_code, state.oom_killed) == ("exited", 3, False)
    assert state.started_at is not None
    assert state.finished_at is not None
    lived_s = (state.finished_at - state.started_at).total_seconds()
    assert 0.3 < lived_s < lived_at_most_s + 1
    yard.engine.start(spec.name)
    assert yard.state(spec.name).running
    yard.engine.kill(spec.name)
    assert yard.engine.wait(spec.name, PATIENCE_S) == 137


def test_twice_is_no_failure(yard: Yard) -> None:
    """What is stopped, killed or removed twice, or was never there, is fine."""
    name = yard.started("trap 'exit 5' TERM; echo hears; while :; do sleep 0.1; done")
    yard.until_said(name, b"hears")
    yard.engine.stop(name, 120)
    assert yard.state(name).exit_code == 5
    for _ in range(2):
        yard.engine.stop(name)
        yard.engine.kill(name)
    for _ in range(2):
        yard.engine.remove(name)
        yard.engine.stop(name)
        yard.engine.kill(name)
    volume = yard.volume()
    yard.engine.create_volume(volume, {"plandock.test": "other"})
    assert [v.labels["plandock.test"] for v in yard.engine.volumes(yard.label)] == [yard.mark]
    for _ in range(2):
        yard.engine.remove_volume(volume)
        yard.engine.remove_image("plandock-nowhere:1")
    assert yard.engine.inspect(name) is None


def test_volumes_go_together_and_the_one_in_use_is_named(yard: Yard) -> None:
    """One that is not there hides neither what became of the others nor the one that stays."""
    names = [yard.volume(x) for x in ("a", "b", "c")]
    absent = yard.name("absent")
    yard.engine.create(yard.spec("true", "holder", volumes=(VolumeMount(names[1], "/x"),)))
    with pytest.raises(EngineError, match=re.escape(names[1])):
        yard.engine.remove_volume(names[0], absent, names[1], names[2])
    assert yard.engine.volume_names(yard.label) == (names[1],)
    yard.engine.remove(yard.name("holder"))
    yard.engine.remove_volume(absent, *names)
    assert yard.engine.volume_names(yard.label) == ()
    yard.engine.remove_volume()


def test_what_is_not_there(yard: Yard) -> None:
    """To start, enter or use what does not exist is an error that says so."""
    absent = yard.name("absent")
    with pytest.raises(NotThere):
        yard.engine.start(absent)
    with pytest.raises(NotThere):
        yard.engine.exec(absent, ["true"])
    with pytest.raises(EngineError):
        yard.engine.create(yard.spec("true", image="plandock-nowhere:1"))
    assert yard.engine.image_id("plandock-nowhere:1") is None
    assert yard.engine.local_name("plandock-nowhere:1") is None


def test_found_by_label_alone(yard: Yard) -> None:
    """Containers (ended ones too) and volumes are found by label, and no others."""
    yard.started("true", "one")
    yard.engine.create(yard.spec("true", "two"))
    yard.engine.create(yard.spec("true", "three", labels={"plandock.test": yard.mark + "x"}))
    yard.volume("a")
    found = {state.name for state in yard.engine.containers(yard.label)}
    assert found == {yard.name("one"), yard.name("two")}
    assert set(yard.engine.container_names(yard.label)) == found
    assert yard.engine.volume_names(yard.label) == (yard.name("a"),)
    every = {state.name for state in yard.engine.containers("plandock.test")}
    assert every >= {yard.name("one"), yard.name("two"), yard.name("three")}
    yard.engine.remove(yard.name("three"))
    assert [v.name for v in yard.engine.volumes(yard.label)] == [yard.name("a")]
    assert yard.engine.containers("plandock.test=nobody") == ()
    assert yard.engine.volumes("plandock.test=nobody") == ()
    assert yard.engine.images("plandock.test=nobody") == ()


def test_exec(yard: Yard) -> None:
    """A program in a running container gets its words, its user and its standard input."""
    name = yard.started("exec tail -f /dev/null", tmpfs=SCRATCH)
    finished = yard.engine.exec(name, ["sh", "-c", 'id -u; cat; echo "$1"', "sh", "a b;$c"])
    assert finished.text == "1000\na b;$c\n"
    finished = yard.engine.exec(name, ["sh", "-c", "id -u; cat"], user="0", stdin=b"in\0put")
    assert finished.stdout == b"0\nin\0put"
    assert yard.engine.exec(name, ["false"], check=False).returncode == 1
    with pytest.raises(EngineError):
        yard.engine.exec(name, ["false"])
    child = yard.engine.open_exec(name, ["cat"])
    assert child.stdin is not None
    with contextlib.closing(Reader(child)) as reader:
        child.stdin.write(b"hello")
        child.stdin.close()
        assert reader.whole() == b"hello"
    words = yard.engine.exec_command(name, ["sh"], user="0", tty=True)
    assert words[-1] == "sh"
    assert "--tty" in words
    done = proc.run(yard.engine.exec_command(name, ["echo", "hi"], tty=False))
    assert done.stdout == b"hi\n"


def test_logs_from_the_start_to_the_end(yard: Yard) -> None:
    """Whoever follows late gets the lines, long ones whole and one by one, and then the end; and
    all of them in any case from a container that has ended (Docker 20.10's follower has been seen
    to miss the last one on a busy machine; `supervisor.running` reads once more)."""
    long = json.dumps({"x": "y" * 100_000})
    name = yard.started(
        "head -c 100000 /dev/zero | tr '\\0' y | sed 's/^/{\"x\": \"/; s/$/\"}/'; echo;"
        f"yes noise | head -n 50000 >&2; {UNTIL_LET_GO}; echo last",
        tmpfs=SCRATCH,
    )
    yard.until_said(name, long.encode())
    with contextlib.closing(Reader(yard.engine.logs(name))) as follower:
        yard.engine.exec(name, LET_GO)
        lines = [line for line in follower.whole().decode().splitlines() if line]
    assert lines in ([long, "last"], [long])
    while (state := yard.engine.inspect(name)) is not None and state.running:
        time.sleep(0.1)
    with contextlib.closing(Reader(yard.engine.logs(name, follow=False))) as reader:
        assert [line for line in reader.whole().decode().splitlines() if line] == [long, "last"]


def test_bridge_reaches_what_none_does_not(yard: Yard) -> None:
    """A network is there only where it was asked for."""
    script = "ls /sys/class/net | grep -vc lo"
    assert yard.engine.run(yard.spec(script), check=False).text == "0\n"
    assert yard.engine.run(yard.spec(script, network="bridge"), check=False).text == "1\n"


def test_proxies_of_the_host_stay_out(
    yard: Yard, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the environment's proxies nor those of docker's configuration get in."""
    (home / ".docker").mkdir()
    proxy = {"httpProxy": "http://u:secret@192.0.2.1:1", "httpsProxy": "http://u:secret@192.0.2.1"}
    (home / ".docker/config.json").write_text(json.dumps({"proxies": {"default": proxy}}))
    monkeypatch.setenv("HTTP_PROXY", "http://u:secret@192.0.2.1:1")
    fresh = CommandLineEngine("docker" if yard.engine.name == "docker" else "podman")
    said = fresh.run(yard.spec("env")).text
    assert "PATH=" in said
    assert "secret" not in said


def test_many_at_a_time(yard: Yard) -> None:
    """Several containers may come and go while they are listed."""
    failures: list[BaseException] = []

    def churn(number: int) -> None:
        try:
            for turn in range(3):
                assert yard.engine.run(yard.spec("echo x", f"n{number}-{turn}")).text == "x\n"
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=churn, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        yard.engine.containers(yard.label)
    for thread in threads:
        thread.join()
    assert failures == []
    assert yard.engine.containers(yard.label) == ()


def test_an_unknown_runtime_is_refused_with_those_that_there_are(yard: Yard) -> None:
    """Exit code 20, and the hint names a runtime of this engine; the known one works."""
    with pytest.raises(EngineError, match="knows no runtime nosuch") as caught:
        yard.engine.create(yard.spec("true", runtime="nosuch"))
    assert caught.value.exit_code == 20
    assert "runc" in caught.value.hint
    yard.started("true", "known", runtime="runc")
