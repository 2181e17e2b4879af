"""A user's laptop for end-to-end tests: home, repository, real CLI, stand-in and engine.

The vocabulary of the stories: `plan`, `accept`, `wait`, and what can be seen afterwards.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from plandock.runs import alive
from plandock.runs.model import Run
from plandock.runs.store import Store
from plandock.standin import Request, StandIn
from tests.support import claude_screen, evidence, product
from tests.support.journal import note
from tests.support.machine import CLONE, ENGINE_VARIABLES
from tests.support.repository import Repository, make_repository, write_git_config
from tests.support.tmux import Tmux

ACCESS = "sk-ant-oat01-" + "made-up-access-token-" * 3
REFRESH = "sk-ant-ort01-" + "made-up-refresh-token-" * 3
PATIENCE_S = 1200.0


class Laptop:
    """One user's machine, in a folder of its own."""

    def __init__(
        self,
        root: Path,
        *,
        cli: Path,
        engine: str,
        standin: StandIn,
        repo_name: str = "project",
        repo_root: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.home = root / "home"
        note("home", self.home)
        self.home.mkdir(parents=True, exist_ok=True)
        write_git_config(self.home)
        self.cli, self.engine, self.standin = cli, engine, standin
        self.repo: Repository = make_repository((repo_root or self.home) / repo_name)
        self.config = self.home / ".claude"
        self.config.mkdir(exist_ok=True)
        self.log_in()
        self.trust()
        note("name", login := secrets.token_hex(6))
        self.env = {
            "HOME": str(self.home),
            "PATH": f"{Path(product.python()).parent}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "XDG_CACHE_HOME": os.environ.get("PLANDOCK_TEST_CACHE", str(CLONE / ".setup/cache")),
            "ANTHROPIC_BASE_URL": standin.url,
            "PLANDOCK_UPSTREAM": standin.url,
            "PLANDOCK_CLAUDE": str(cli),
            "PLANDOCK_LOGIN_VOLUME": f"plandock-login-{login}",
            "PLANDOCK_ENGINE": engine,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            **{name: os.environ[name] for name in ENGINE_VARIABLES if name in os.environ},
            **(env or {}),
        }
        evidence.register(self)

    def evidence(self) -> Iterator[tuple[str, str]]:
        """The log and the events of each run, for whoever reads of a failed test."""
        state = self.home / ".local/state/plandock"
        if not (state / "plandock.db").exists():
            return
        with Store(state / "plandock.db") as store:
            for run in store.list():
                log = state / "runs" / run.id / "supervisor.log"
                text = log.read_text(errors="replace") if log.exists() else "(no log)"
                title = f"run {run.id}: {run.state} {run.reason or ''} {run.message or ''}"
                yield f"{title} (log)", evidence.last_lines(text, 40)
                events = "\n".join(json.dumps(event) for event in store.events(run.id))
                yield f"run {run.id} (events)", evidence.last_lines(events, 25)

    def log_in(self, *, token: str = ACCESS, expires_in_s: float = 8 * 3600.0) -> None:
        """A made-up Max login, with a refresh token that must never leave; in place of any other
        at once, as the CLI renews it."""
        login = {
            "accessToken": token,
            "refreshToken": REFRESH,
            "expiresAt": int((time.time() + expires_in_s) * 1000),
            "scopes": ["user:inference", "user:profile"],
            "subscriptionType": "max",
        }
        # Several users of one laptop may do so at a time.
        file = self.config / f".credentials.{threading.get_ident()}.new"
        file.write_text(json.dumps({"claudeAiOauth": login}))
        file.chmod(0o600)
        file.replace(self.config / ".credentials.json")

    def trust(self, **extra: object) -> None:
        """The CLI's own state: onboarding done, the repository trusted."""
        project = {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}
        state = {
            "hasCompletedOnboarding": True,
            "theme": "dark",
            "projects": {str(self.repo.root): project},
            **extra,
        }
        (self.home / ".claude.json").write_text(json.dumps(state))

    def plandock(
        self,
        *words: str,
        check: bool = True,
        stdin: str = "",
        timeout_s: float = 1500.0,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run the product as the user would, in the repository; ``env`` for this once."""
        done = subprocess.run(
            product.argv(*words),
            cwd=self.repo.root,
            env={**self.env, **(env or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done

    def json(self, *words: str) -> Any:
        """What a command prints with --json."""
        return json.loads(self.plandock(*words, "--json").stdout)

    def recorded(self) -> list[Run]:
        """Every run in the store, read by this process; [] where there is no store yet."""
        file = self.home / ".local/state/plandock/plandock.db"
        if not file.is_file():
            return []
        with Store(file) as store:
            return store.list()

    def runs(self) -> list[dict[str, Any]]:
        """Every run."""
        found: list[dict[str, Any]] = self.json("ps")
        return found

    def plan(self, terminal: Tmux, prompt: str = "Plan it please", *words: str) -> list[str]:
        """Start the real CLI in plan mode, ask for a plan, and wait for its dialog.

        The dialog takes keys then, and the cursor stands on the first option; returns the words
        of them all.
        """
        terminal.start(
            [self.cli, "--permission-mode", "plan", *words], cwd=self.repo.root, env=self.env
        )
        terminal.wait_for(r"plan mode|for shortcuts", claude_screen.PATIENCE_S)
        claude_screen.ask(terminal, prompt)
        return claude_screen.wait_for_plan(terminal)

    def host_requests(self, session: str) -> list[Request]:
        """The model requests that this machine's own CLI has made (its title aside)."""
        return [r for r in self.standin.requests if r.has_tools and r.session_id == session]

    def fingerprint(self) -> dict[str, str]:
        """Work tree, index, HEAD, config, stash, hooks: everything that must stay as it is."""
        seen = {}
        for path in sorted(self.repo.root.rglob("*")):
            name = str(path.relative_to(self.repo.root))
            if name.startswith((".git/objects", ".git/refs", ".git/logs/refs")):
                continue
            if path.is_symlink():
                seen[name] = f"-> {os.readlink(path)}"
            elif path.is_file():
                seen[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return seen

    def refs(self) -> dict[str, str]:
        """Every ref that is not hidden, and its commit."""
        lines = self.repo.git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        pairs = [line.split() for line in lines]
        return {name: commit for name, commit in pairs if not name.startswith("refs/plandock/")}

    def left(self) -> dict[str, list[str]]:
        """What each run of this user has left in the engine: names of containers and volumes,
        by label; runs that have left nothing are absent."""
        runs = {run.id for run in self.recorded()}
        found: dict[str, list[str]] = {}
        if not runs:
            return found
        key = "plandock.run"
        label = {"docker": f'{{{{.Label "{key}"}}}}', "podman": f'{{{{index .Labels "{key}"}}}}'}
        for words, name in ((["ps", "-a"], "{{.Names}}"), (["volume", "ls"], "{{.Name}}")):
            form = f"{label[self.engine]} {name}"
            argv = [self.engine, *words, "--filter", f"label={key}", "--format", form]
            done = subprocess.run(argv, capture_output=True, text=True, check=True)
            for run_id, _, thing in (line.partition(" ") for line in done.stdout.splitlines()):
                if run_id in runs:
                    found.setdefault(run_id, []).append(thing)
        return found

    def leftovers(self) -> list[str]:
        """All that runs of this user have left in the engine."""
        return [thing for things in self.left().values() for thing in things]

    def clean_up(self) -> None:
        """End every run, remove what any has left in the engine, and its repository's mirror.

        A run that has ended and left nothing costs no command.
        """
        for run in self.recorded():
            if not run.state.final:
                self.plandock("stop", run.id, check=False)
        for run_id in self.left():
            self.plandock("drop", run_id, "--yes", check=False)
        for repository in {str(self.repo.root), *(run.repo for run in self.recorded())}:
            self.remove_mirror(repository)

    def remove_mirror(self, repository: str = "") -> None:
        """Remove the volume with a repository's objects, by default of the laptop's own."""
        root = repository or str(self.repo.root)
        digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
        subprocess.run(
            [self.engine, "volume", "rm", "-f", f"plandock-mirror-{digest}"],
            capture_output=True,
            check=False,
        )

    def store(self) -> Store:
        """This user's runs, read by the test: no command of the product moves one on by that."""
        return Store(self.home / ".local/state/plandock/plandock.db")

    def hand_off(
        self,
        plan: str = "# The plan\n\nDo it.\n",
        *words: str,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Hand a plan off by hand and do not wait; the id of its run."""
        said = self.plandock("run", "--plan", "-", *words, stdin=plan, env=env).stdout
        found = re.search(r"handed off as (\w+) ", said)
        assert found, said
        return found[1]

    def until(self, run_id: str, *states: str, reason: str = "") -> Run:
        """The run as soon as it is in one of these states (for that reason); fails where it
        ends in another."""
        end = time.monotonic() + PATIENCE_S
        with self.store() as store:
            while True:
                run = store.get(run_id)
                if run.state in states and reason in ("", run.reason):
                    return run
                assert not run.state.final, run
                assert time.monotonic() < end, run
                time.sleep(0.1)

    def until_over(self, run_id: str) -> Run:
        """The run as soon as it has ended, whatever way, and its supervisor is gone."""
        end = time.monotonic() + PATIENCE_S
        with self.store() as store:
            while True:
                run = store.get(run_id)
                driven = alive.is_same(run.supervisor_pid, run.supervisor_started)
                if run.state.final and not driven:
                    return run
                assert time.monotonic() < end, run
                time.sleep(0.1)


def tool_names(requests: Sequence[Request]) -> list[str]:
    """The tools that a series of answers called."""
    return [name for r in requests for name in r.tools]
