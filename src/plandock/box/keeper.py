"""A login of plandock's own: made by the unmodified CLI in a container, kept in a volume.

The volume holds what the CLI writes there, refresh token and all, and is mounted in no run's box:
a reader without network prints the file to the host, which hands on the access token alone.  What
renews it is the CLI again, in the *keeper*: a container with the volume, whose only way out is a
gateway to Anthropic's own hosts.
"""

from __future__ import annotations

import json
import secrets
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import IO

from plandock import paths, proc
from plandock.box import launch
from plandock.claude.package import locked
from plandock.engines.protocol import ContainerSpec, Engine, Tmpfs, VolumeMount
from plandock.errors import EngineError, PlandockError

LABEL = "plandock.login"
# Whose it is: the name of the volume with the login, for what is made beside it.
OWNER = "plandock.login.volume"
FOLDER = "/plandock/login"
FILE = f"{FOLDER}/.credentials.json"
STATE = f"{FOLDER}/.claude.json"
# Where the CLI signs in and renews (measured: both versions renew at platform.claude.com).
HOSTS = ("api.anthropic.com", "claude.ai", "console.anthropic.com", "platform.claude.com")
# Both versions renew by themselves with less than five minutes left, and not with seven
# (measured), so asking for more than that here would ask for what never comes.
ENOUGH_LIFE_S = 300.0
CLI = "/usr/local/bin/claude"

_SCRIPT = ("python3", "-I", "/opt/plandock/keeper.py")
_NO_FILE = 3
_RENEW_S = 300.0


def exists(engine: Engine, volume: str) -> bool:
    """Whether this engine has the volume."""
    return volume in engine.volume_names(f"{LABEL}=1")


def forget(engine: Engine, volume: str) -> bool:
    """Remove the volume with its login; returns whether there was one."""
    was = exists(engine, volume)
    with held():
        engine.remove_volume(volume)
    return was


def read(engine: Engine, image: str, volume: str, file: str = FILE) -> bytes | None:
    """The CLI's credentials file out of the volume, or another one; None where there is none.

    That holds the refresh token: for :func:`plandock.claude.login.parse_credentials` alone.
    """
    if not exists(engine, volume):
        return None
    spec = ContainerSpec(
        name=f"plandock-login-read-{secrets.token_hex(4)}",
        image=image,
        argv=(*_SCRIPT, "read", file),
        labels={LABEL: "reader", OWNER: volume},
        volumes=(VolumeMount(volume, FOLDER, read_only=True),),
        memory_bytes=256 << 20,
        pids_limit=64,
    )
    done = engine.run(spec, check=False)
    if done.ok:
        return done.stdout
    if done.returncode == _NO_FILE:
        return None
    raise EngineError(f"the volume {volume} cannot be read: {done.complaint}")


def sign_in(engine: Engine, image: str, upstream: str, volume: str) -> int:
    """Let the CLI sign in, on this very terminal; returns its exit code."""
    engine.create_volume(volume, {LABEL: "1", OWNER: volume})
    with held(), _keeper(engine, image, upstream, volume) as name:
        argv = (CLI, "auth", "login", "--claudeai")
        return proc.attached(engine.exec_command(name, argv, user="1000:1000"))


def renew(engine: Engine, image: str, upstream: str, volume: str) -> None:
    """Let the CLI renew its own login, by asking it a trivial thing; says nothing of the outcome.

    Costs a few tokens; the caller has :func:`held`.  The volume is to be read again afterwards.
    """
    argv = (CLI, "-p", "--max-turns", "1", "--output-format", "text", "--", "Answer with: OK")
    with _keeper(engine, image, upstream, volume) as name, suppress(EngineError):
        engine.exec(name, argv, user="1000:1000", timeout_s=_RENEW_S, check=False)


@contextmanager
def held() -> Iterator[None]:
    """One process at a time over the volume: refresh tokens are single-use."""
    with locked(paths.state_dir() / "login.lock"):
        yield


@contextmanager
def _keeper(engine: Engine, image: str, upstream: str, volume: str) -> Iterator[str]:
    """A running keeper and its gateway; gives the keeper's name.  Both end with this process."""
    mark = secrets.token_hex(4)
    link = f"plandock-login-link-{mark}"
    for old in engine.volumes(f"{LABEL}=link"):
        # Of a process that was killed. One of another login may be about to be used.
        if old.labels.get(OWNER, volume) == volume:
            with suppress(PlandockError):
                engine.remove_volume(old.name)
    with ExitStack() as stack:
        engine.create_volume(link, {LABEL: "link", OWNER: volume})
        stack.callback(_quietly, engine.remove_volume, link)
        engine.run(_prepare_spec(image, link, mark, volume))
        stack.enter_context(_open(engine, _gateway_spec(image, link, mark, upstream, volume)))
        stack.enter_context(_open(engine, _spec(image, link, mark, upstream, volume)))
        yield _name(mark)


@contextmanager
def _open(engine: Engine, spec: ContainerSpec) -> Iterator[None]:
    """A container whose standard input this process holds, from its first line on."""
    with tempfile.TemporaryFile() as errors:
        child = engine.open_run(spec, stderr=errors)
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            if b"ready" not in child.stdout.readline():
                errors.seek(0)
                said = errors.read(2000).decode("utf-8", "replace").strip()
                raise EngineError(f"{spec.name} did not start: {said[-300:]}")
            # What a gateway says on is read and let go, or it would stand still some day.
            threading.Thread(target=_drain, args=(child.stdout,), daemon=True).start()
            yield
        finally:
            child.stdin.close()
            proc.end(child)
            _quietly(engine.remove, spec.name)


def _drain(stream: IO[bytes]) -> None:
    with suppress(OSError, ValueError):
        while stream.read(65536):
            pass


def _quietly(call: object, *words: str) -> None:
    with suppress(PlandockError):
        call(*words)  # type: ignore[operator]


def _name(mark: str) -> str:
    return f"plandock-login-keeper-{mark}"


def _prepare_spec(image: str, link: str, mark: str, volume: str) -> ContainerSpec:
    return ContainerSpec(
        name=f"plandock-login-prepare-{mark}",
        image=image,
        argv=(*_SCRIPT, "prepare", FOLDER, launch.LINK),
        labels={LABEL: "prepare", OWNER: volume},
        volumes=(VolumeMount(volume, FOLDER), VolumeMount(link, launch.LINK)),
        user="0:0",
        cap_add=("CHOWN", "SETUID", "SETGID"),
    )


def _gateway_spec(image: str, link: str, mark: str, upstream: str, volume: str) -> ContainerSpec:
    route = launch.stand_in_route(upstream)
    wish = {"socket": f"{launch.LINK}/proxy.sock", "allow": list(HOSTS), "upstream": route}
    return ContainerSpec(
        name=f"plandock-login-gateway-{mark}",
        image=image,
        argv=(*_SCRIPT, "guard", "python3", "-s", "/opt/plandock/gateway.py"),
        labels={LABEL: "gateway", OWNER: volume},
        volumes=(VolumeMount(link, launch.LINK),),
        env={"PLANDOCK_GATEWAY": json.dumps(wish), "PYTHONPATH": "/opt/plandock/lib"},
        network=launch.gateway_network(upstream),
        memory_bytes=256 << 20,
        pids_limit=64,
        stdin_open=True,
        init=True,
        stop_timeout_s=2,
    )


def _spec(image: str, link: str, mark: str, upstream: str, volume: str) -> ContainerSpec:
    proxy = "http://127.0.0.1:3128"
    env = {
        "HOME": launch.HOME,
        "CLAUDE_CONFIG_DIR": FOLDER,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PLANDOCK_BOX": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    env |= dict.fromkeys(("HTTPS_PROXY", "https_proxy"), proxy)
    if upstream:
        env["ANTHROPIC_BASE_URL"] = "http://127.0.0.1:3129"
    return ContainerSpec(
        name=_name(mark),
        image=image,
        argv=(*_SCRIPT, "keep"),
        labels={LABEL: "keeper", OWNER: volume},
        volumes=(VolumeMount(volume, FOLDER), VolumeMount(link, launch.LINK, read_only=True)),
        tmpfs=(Tmpfs(launch.HOME, 256 << 20), Tmpfs(launch.SCRATCH, 256 << 20)),
        env=env,
        memory_bytes=4 * launch.GIB,
        pids_limit=256,
        stdin_open=True,
        init=True,
        hostname="login",
        stop_timeout_s=2,
    )
