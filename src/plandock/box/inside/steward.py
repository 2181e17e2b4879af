"""What runs in the box beside the agent: holds its standard input, judges who pays, ends it.

Child of the init process.  Told what to do through a FIFO that it holds open itself, so that it
does not matter who writes to it or how often; says what happens as JSON lines on standard output,
between the CLI's own, and that is the container's log.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import activity  # type: ignore[import-not-found]
import clients  # type: ignore[import-not-found]
import harvest  # type: ignore[import-not-found]
import opening  # type: ignore[import-not-found]
import output  # type: ignore[import-not-found]
import overage  # type: ignore[import-not-found]
import payer  # type: ignore[import-not-found]
import probe  # type: ignore[import-not-found]
import relay as relay_module  # type: ignore[import-not-found]
import repository_settings  # type: ignore[import-not-found]
import watchdog  # type: ignore[import-not-found]
import words  # type: ignore[import-not-found]

ROOM = "/run/plandock"
HOME = "/plandock/home"
CONFIG = f"{HOME}/.claude"
VOLUME = "/plandock/conversation"
CLI = "/usr/local/bin/claude"
# How long it is waited for the CLI to end, and for a turn that is to follow on a task's end.
END_S = 20.0
# How long the CLI may still work on the answer after which usage credits would pay.
LAST_S = 2.0
_LOOK_S = 0.2
MOST_EARLY = 100
# The CLI needs a second for it; a machine with far too much to do is no reason to give up.
ASK_S = 300.0


def say(event: str, **facts: object) -> None:
    """One line of our own into the log."""
    with _out:
        sys.stdout.write(json.dumps({"type": "plandock", "event": event, **facts}) + "\n")
        sys.stdout.flush()


_out = threading.Lock()


class Steward:
    """Drives one agent."""

    def __init__(self) -> None:
        self.relay = relay_module.Relay()
        self.cli: subprocess.Popen[bytes] | None = None
        self.wish: dict[str, Any] = {}
        self.ended = threading.Event()
        self.seen_result = False
        self.lost = ""  # the CLI's words where it could not open the conversation
        self.cut = False  # the present process is ended from outside, at work or not
        self.capped = False  # the CLI has been told how much usage credits are left for it
        self.prompt = ""
        self.resumes = False
        self.told: list[str] = []  # what the user has said to the present agent, bounded
        self.watch: watchdog.Watchdog | None = None
        self.activity = activity.Activity()
        self.speaking = threading.Lock()
        self.carried: dict[str, Any] = {}  # of the repository's settings
        # What the user says before the agent has its prompt; None from then on.
        self.early: list[str] | None = []

    def prepare(self) -> None:
        """Home, FIFO and the ways out."""
        os.umask(0o077)
        os.makedirs(f"{ROOM}", exist_ok=True)
        os.makedirs(f"{VOLUME}/projects", exist_ok=True)
        os.makedirs(CONFIG, exist_ok=True)
        if not os.path.islink(f"{CONFIG}/projects"):
            os.symlink(f"{VOLUME}/projects", f"{CONFIG}/projects")
        user = f"{VOLUME}/user"
        for name in os.listdir(user) if os.path.isdir(user) else []:
            if not os.path.lexists(f"{CONFIG}/{name}"):
                os.symlink(f"{user}/{name}", f"{CONFIG}/{name}")
        os.mkfifo(f"{ROOM}/control", 0o600)
        self.relay.listen(relay_module.PROXY_PORT, "/plandock/link/proxy.sock")
        self.relay.listen(relay_module.UPSTREAM_PORT, "/plandock/link/upstream.sock")

    def listen(self) -> None:
        """Take messages until the agent has ended.  Read-write: so it is never at end of file."""
        with os.fdopen(os.open(f"{ROOM}/control", os.O_RDWR), "rb", buffering=0) as fifo:
            say("ready")
            buffer = b""
            while not self.ended.is_set():
                buffer += fifo.read(4096) or b""
                while b"\n" in buffer:
                    line, buffer = buffer.split(b"\n", 1)
                    self.take(line.decode())

    def take(self, name: str) -> None:
        """Act on one message, which lies in the tmpfs under that name."""
        try:
            with open(name, "rb") as file:
                message = json.load(file)
            os.unlink(name)
        except (OSError, ValueError, RecursionError):
            return
        # The agent can write here, too: what is not a message of the host's is passed over.
        if not isinstance(message, dict):
            return
        op = message.get("op")
        if op == "start" and self.cli is None and not self.wish:
            self.wish = message
            threading.Thread(target=self.work, daemon=True).start()
        elif op == "credentials" and isinstance(message.get("credentials"), dict):
            self.keep_credentials(message["credentials"])
            say("credentials-renewed")
        elif op == "say" and isinstance(message.get("text"), str):
            with self.speaking:
                if self.early is None:
                    self.speak(message["text"])
                    self.told = [*self.told, message["text"]][:MOST_EARLY]
                elif len(self.early) < MOST_EARLY:
                    self.early.append(message["text"])
        elif op == "stop":
            self.stop()

    def keep_credentials(self, credentials: dict[str, Any] | None) -> None:
        """Write the login into the tmpfs; renamed into place, for the CLI may be reading it."""
        if credentials is None:
            return
        temporary = f"{CONFIG}/.credentials.new"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(credentials, file)
        os.replace(temporary, f"{CONFIG}/.credentials.json")

    def environment(self) -> dict[str, str]:
        """The agent's environment, built from nothing."""
        wish = self.wish
        env = {
            "HOME": HOME,
            "PATH": f"{HOME}/.local/bin:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "SHELL": "/bin/bash",
            "USER": "agent",
            "PLANDOCK_BOX": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            **watchdog.TRIES,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_AUTHOR_NAME": wish["name"],
            "GIT_AUTHOR_EMAIL": wish["email"],
            "GIT_COMMITTER_NAME": wish["name"],
            "GIT_COMMITTER_EMAIL": wish["email"],
        }
        proxy = f"http://127.0.0.1:{relay_module.PROXY_PORT}"
        for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
            env[name] = proxy
        env["NO_PROXY"] = env["no_proxy"] = "127.0.0.1,localhost"
        env |= clients.set_up(HOME, proxy, wish.get("clients") or {})
        if wish.get("by_route"):
            env["ANTHROPIC_BASE_URL"] = f"http://127.0.0.1:{relay_module.UPSTREAM_PORT}"
        if wish.get("api_key"):
            env["ANTHROPIC_API_KEY"] = wish["api_key"]
        return env

    def settings(self, env: dict[str, str]) -> str:
        """The settings that alone count, with what is carried of the repository's: their path."""
        content: dict[str, Any] = self.carried | self.wish["settings"]
        pinned = content["env"] = {**self.carried.get("env", {}), **content.get("env", {})}
        for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY"):
            pinned[name] = env[name]
        content["disableAllHooks"] = True
        if not self.wish.get("api_key"):
            content["forceLoginMethod"] = "claudeai"
        place = f"{ROOM}/settings.json"
        with open(place, "w", encoding="utf-8") as file:
            json.dump(content, file)
        return place

    def work(self) -> None:
        """Carry the plan out; whatever happens, the last words are `agent-ended`."""
        code, why = 1, ""
        try:
            code, why = self.carry_out()
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        say("agent-ended", code=code, result=self.seen_result, why=why)
        self.ended.set()
        os.kill(os.getpid(), signal.SIGUSR1)  # wakes the reader of the FIFO

    def carry_out(self) -> tuple[int, str]:
        """Set up, ask the CLI who pays, let it go; returns its exit code and why, if not its."""
        wish = self.wish
        if not sealed(list(probe.examine(wish.get("isolation")))):
            return 1, "isolation"
        os.umask(0o022)
        wish.setdefault("state", {}).update(hasCompletedOnboarding=True, theme="dark")
        wish["state"]["projects"] = {
            wish["cwd"]: {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}
        }
        with open(f"{HOME}/.claude.json", "w", encoding="utf-8") as file:
            json.dump(wish["state"], file)
        self.keep_credentials(wish.get("credentials"))
        try:
            harvest.free_locks(wish["cwd"])
        except OSError as error:
            say("stderr", text=f"git's locks: {error}")
        env = self.environment()
        if wish.get("setup") and not self.set_up(env):
            return 1, "the setup command failed"
        sources = self.judge_repository(env)
        head = [CLI, "--settings", self.settings(env), "--strict-mcp-config", *sources]
        code, why = self.keep_on(head, self.words(), env)
        if self.lost and os.path.exists(self.talk):
            # The file is there, and the CLI finds nothing in it to go on from: a new beginning.
            os.replace(self.talk, self.talk + ".lost")
            code, why = self.keep_on(head, self.words(), env)
        if self.lost:
            say("begun-anew", why=self.lost)
            if os.path.exists(self.talk):
                os.replace(self.talk, self.talk + ".lost")
            self.prompt, self.resumes = wish["prompt_anew"], False
            code, why = self.keep_on(head, wish["anew"], env)
        return code, why

    def keep_on(self, head: list[str], words: list[str], env: dict[str, str]) -> tuple[int, str]:
        """One agent, to its end: a second process of the CLI where usage credits begin to pay, and
        each within what the user allows of them."""
        code, why = self.converse([*head, *words, *self.cap()], env)
        if why != "restart":
            return code, why
        if not self.activity.has_work:
            return code, ""  # that answer was the last
        assert self.cli is not None
        with self.speaking, self.cli:  # its pipes are closed
            self.early = []
        self.capped = True
        self.relay.gate.set()  # for the question who pays; the old process's requests are cut
        if os.path.exists(self.talk):
            words = self.words()
        return self.converse([*head, *words, *self.cap()], env)

    def cap(self) -> list[str]:
        """The CLI's budget, once usage credits pay."""
        if not self.capped:
            return []
        # After the list of tools: an option of the same name that stands before counts less.
        return ["--max-budget-usd", f"{self.wish['credits_left_usd']:g}"]

    def judge_repository(self, env: dict[str, str]) -> list[str]:
        """Take what counts of the repository's settings, say the rest; the CLI's arguments.

        The CLI reads none of them, not even one that the agent writes, nor takes up a plugin of
        the repository; it gets the project's words another way.
        """
        cwd = self.wish["cwd"]
        for name in repository_settings.FILES:
            # The CLI's own folder began without one: the setup command's work, the project's word.
            with contextlib.suppress(OSError):
                os.unlink(f"{CONFIG}/{name}")
                say("repository-settings", lines=[f"set aside in the box: all of ~/.claude/{name}"])
        found = repository_settings.judge_folder(cwd, {*env, *self.wish["settings"].get("env", {})})
        self.carried = repository_settings.merged(found)
        said = [line for one in found for line in repository_settings.lines(one, cwd)]
        said += words.lay_out(repository_settings.up_to_the_top(cwd), CONFIG)
        if said:
            say("repository-settings", lines=said)
        return ["--setting-sources", "user"]

    @property
    def talk(self) -> str:
        """The file of the box's own conversation; it outlives the box."""
        return f"{VOLUME}/{self.wish['conversation']}"

    def words(self) -> list[str]:
        """The CLI's arguments: the first time, or for a conversation that was broken off."""
        again = os.path.exists(self.talk) and os.path.getsize(self.talk) > 0
        self.prompt = self.wish["prompt_again" if again else "prompt"]
        arguments: list[str] = self.wish["again" if again else "arguments"]
        self.resumes = "--resume" in arguments
        return arguments

    def converse(self, argv: list[str], env: dict[str, str]) -> tuple[int, str]:
        """One process of the CLI, from its start to its end: its exit code, and why if not its."""
        self.cli = subprocess.Popen(
            argv,
            cwd=self.wish["cwd"],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        say("agent-started")
        reader = threading.Thread(target=self.complaints, daemon=True)
        reader.start()
        # In the home folder: a repository's settings must not answer for the login, and its
        # `apiKeyHelper` would be run by the mere question (measured).
        asked = subprocess.run(
            [CLI, "auth", "status"],
            cwd=HOME,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ASK_S,
            check=False,
        )
        try:
            status = json.loads(asked.stdout)
        except ValueError:
            status = None
        say("auth-status", status=status, code=asked.returncode)
        if not payer.pays_as_wished(status, self.wish["billing"]):
            self.cli.kill()
            self.cli.wait()
            return 1, "billing"
        self.relay.gate.clear()
        at = activity.Activity()
        self.activity, self.cut = at, False
        watch = watchdog.Watchdog(
            limit_s=self.wish.get("time_left_s"),
            silence_s=self.wish.get("silence_s"),
            moved=lambda: self.relay.moved,
            answering=lambda: at.in_turn,
        )
        self.watch = watch
        watch.begin(self.cut_short)
        with self.speaking:
            # An agent that could not open its conversation has heard nothing of it.
            self.told = [*self.told, *(self.early or ())][:MOST_EARLY]
            for text in (self.prompt, *self.told):
                self.speak(text)
            self.early = None
        why = self.follow()
        try:
            code = self.cli.wait(END_S)
        except subprocess.TimeoutExpired:
            self.cli.kill()
            code = self.cli.wait()
            why = why or "the CLI did not end after its result"
        reader.join(2.0)
        return code, watch.end() or why

    def cut_short(self) -> None:
        """The time is over, or nothing comes any more: end the CLI, and the box with it."""
        self.cut = True
        if self.cli is not None:
            self.cli.terminate()
            try:
                self.cli.wait(10.0)
            except subprocess.TimeoutExpired:
                self.cli.kill()

    def set_up(self, env: dict[str, str]) -> bool:
        """Run the project's own setup command, here in the box; whether it went well."""
        done = subprocess.run(
            ["/bin/sh", "-c", self.wish["setup"]],
            cwd=self.wish["cwd"],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        tail = done.stdout[-4000:].decode("utf-8", "replace")
        say("setup-ended", code=done.returncode, output=tail)
        return done.returncode == 0

    def speak(self, text: str) -> None:
        """Hand the agent a message of the user."""
        if self.cli is None or self.cli.stdin is None or self.cli.stdin.closed:
            return
        message = {"type": "user", "message": {"role": "user", "content": text}}
        try:
            self.cli.stdin.write(json.dumps(message).encode() + b"\n")
            self.cli.stdin.flush()
        except OSError:
            pass

    def follow(self) -> str:
        """Copy the CLI's output to the log and judge it; returns why it was ended, if it was."""
        assert self.cli is not None
        assert self.cli.stdout is not None
        why = ""
        listener = overage.Listener(self.wish.get("gateway_judges") is True)
        opened = opening.Opening() if self.resumes else None
        threading.Thread(target=self.see_out, args=(self.cli, self.activity), daemon=True).start()
        heard = output.Output(self.cli.stdout.fileno())
        self.relay.settle = heard.settle
        for raw in heard.lines():
            with _out:
                sys.stdout.buffer.write(raw)
                sys.stdout.buffer.flush()
            try:
                message = json.loads(raw)
            except ValueError:
                continue
            if not isinstance(message, dict):
                continue
            if message.get("type") == "system" and message.get("subtype") == "init":
                if not payer.says_as_wished(message, self.wish["billing"]):
                    self.cli.kill()
                    say("billing-refused", api_key_source=message.get("apiKeySource"))
                    why = "billing"
                elif not payer.asks_nobody(message):
                    self.cli.kill()
                    say("mode-refused", mode=message.get("permissionMode"))
                    why = "mode"
                else:
                    self.relay.gate.set()
            if (sign := listener.take(message)) is not None:
                why = self.heed(sign) or why
            self.activity.take(message)
            if self.watch is not None:
                self.watch.take(message)
            if opened is not None:
                opened.take(message)
            if message.get("type") == "result":
                # A refusal to begin comes as a result too (measured, both versions).
                self.lost = opened.fault if opened is not None else ""
                self.seen_result = not self.lost
        return why

    def heed(self, sign: Any) -> str:
        """Usage credits pay: stop before the next request unless they may; why it is ended."""
        left_usd = self.wish.get("credits_left_usd")
        then = payer.means(self.wish["billing"], left_usd, self.capped)
        if then != "go-on":
            self.relay.cut()
        if not self.capped:
            say("credits", then=then, **dataclasses.asdict(sign))
        if then == "go-on":
            return ""
        self.cut = True
        threading.Thread(target=self.end_soon, args=(self.cli,), daemon=True).start()
        return "credits" if then == "stop" else then

    def end_soon(self, cli: subprocess.Popen[bytes]) -> None:
        """End the CLI, which can ask nothing any more; what it does with the answer that was paid
        for is given a moment, for that may be the end of its work."""
        try:
            cli.wait(LAST_S)
        except subprocess.TimeoutExpired:
            self.cut_short()

    def see_out(self, cli: subprocess.Popen[bytes], at: activity.Activity) -> None:
        """Hang up when the CLI has nothing to do any more, and see to it that it ends then.

        What works in the background is waited for as long as the order says, and not where the
        agent has used up its turns: another would follow, with as many again.  A CLI that does not
        end by itself would hold its output open, and so its reader, for ever.
        """
        patience_s = self.wish.get("background_s")
        hung_up_at: float | None = None
        while cli.poll() is None:
            at.moved.wait(_LOOK_S)
            at.moved.clear()
            quiet_s, tasks = at.quiet_s, at.tasks
            if at.in_turn:
                continue
            if hung_up_at is not None:
                if min(quiet_s, time.monotonic() - hung_up_at) > END_S:
                    cli.kill()
                continue
            if tasks and not at.spent and (patience_s is None or quiet_s <= patience_s):
                continue
            if at.awaits_turn and not at.spent and quiet_s <= END_S:
                continue
            if not self.cut:
                if tasks:
                    say("background-left", tasks=tasks)
                say("hung-up")
            self.hang_up()
            if tasks and at.spent:
                cli.terminate()  # 2.1.332 would still wait for the task, and begin that turn
            hung_up_at = time.monotonic()

    def complaints(self) -> None:
        """Copy what the CLI says on standard error, line by line, bounded."""
        assert self.cli is not None
        assert self.cli.stderr is not None
        for raw in self.cli.stderr:
            say("stderr", text=raw[:2000].decode("utf-8", "replace").rstrip("\n"))

    def hang_up(self) -> None:
        """No further message: the CLI ends when its standard input does."""
        if self.cli is not None and self.cli.stdin is not None:
            try:
                self.cli.stdin.close()
            except OSError:
                pass

    def stop(self, *_: object) -> None:
        """End the agent, gently; the harvest takes what it has done."""
        self.cut = True
        say("stopping")
        if self.cli is None:
            self.ended.set()
            os.kill(os.getpid(), signal.SIGUSR1)
            return
        self.cli.terminate()


def sealed(checks: list[dict[str, Any]]) -> bool:
    """Say what the probe found; whether nothing of it is false."""
    say("isolation", checks=checks)
    return all(check["ok"] is not False for check in checks)


class Woken(Exception):
    """Raised by the signal that ends the wait at the FIFO."""


def wake(*_: object) -> None:
    """Interrupt the read of the FIFO."""
    raise Woken


def main() -> int:
    """Serve one run."""
    ok, detail = probe.user({})
    if not ok:
        # Nobody could speak to a steward of another user, so that it must say this unasked.
        sealed([{"name": "user", "ok": ok, "detail": detail}])
        return 1
    steward = Steward()
    signal.signal(signal.SIGUSR1, wake)
    signal.signal(signal.SIGTERM, steward.stop)
    try:
        steward.prepare()
        steward.listen()
    except Woken:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
