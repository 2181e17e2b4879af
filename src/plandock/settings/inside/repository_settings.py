"""What becomes of a repository's settings in the box: what is carried, and what is set aside.

The CLI in the box never reads a repository's ``.claude/settings*.json`` itself.  Whatever counts
of them goes by the lists below into the settings that plandock gives it; a key that stands on no
list does nothing, so that neither a hostile nor a careless one can undo the box, nor one that a
later version of the CLI brings (measured: docs/repository-settings.md).

Runs in the box, where the files lie as the run found them, and on the host, for ``doctor``:
standard library only.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

FILES = ("settings.json", "settings.local.json")
LARGEST = 8 << 20
_MOST_VARIABLES, _LONGEST_VALUE = 200, 8192
_MOST_RULES, _LONGEST_RULE = 200, 1000
MOST_NAMES = 30

# Variables that decide which program runs, whom it talks to, as whom, or where it keeps things.
SENSITIVE = re.compile(
    r"(?:PATH|HOME|TMPDIR|TMP|TEMP|SHELL|IFS|ENV|BASH_ENV|CDPATH|PS[0-4]|PROMPT_COMMAND"
    # How a shell reads what it is given; SHELLOPTS=noexec makes every command do nothing.
    r"|SHELLOPTS|BASHOPTS|EXECIGNORE|GLOBIGNORE|FUNCNEST|POSIXLY_CORRECT|TMOUT"
    r"|LOCPATH|NLSPATH|HOSTALIASES|OPENSSL_CONF"
    r"|(?:XDG|PYTHON|LD|DYLD|GIT|DOCKER|CONTAINERS?|PODMAN|BUILDKIT|CLAUDE|CLAUDECODE|ANTHROPIC"
    r"|PLANDOCK|AWS|GOOGLE|AZURE|VERTEX|SSL|REQUESTS_CA|CURL_CA|NODE|NPM_CONFIG|PIP|UV|CARGO"
    r"|GO|SSH|GLIBC|MALLOC|GCONV|BASH_FUNC|DBUS)_?[A-Z0-9_%/:.-]*"
    r"|(?:HTTPS?|ALL|NO|FTP)_PROXY|.*_(?:API_KEY|TOKEN|SECRET|PASSWORD))",
    re.I | re.S,
)
# Variables that the CLI itself reads, by how it names them (both versions): they would change its
# model, its limits or how it works, and reach a box's agent only through plandock's settings.
_OF_THE_CLI = re.compile(
    r"(?:USER|USERNAME|LOGNAME|PWD|OLDPWD|TERM|SHLVL|EDITOR|VISUAL|BROWSER|TRACEPARENT|TRACESTATE"
    r"|HISTFILE|ZDOTDIR"
    r"|(?:AGENT|AI_AGENT|ALLOW|ANT|API|ASYNC|AUTOMODE|BASH|BETA_TRACING|BRIDGE|BUGHUNTER|BUN|CCR"
    r"|CHOKIDAR|CLOUD_ML|CLOUDSDK|COMPUTER_USE|DEBUG_(?:AUTH|CLAUDE|SDK)|DETECT_GCP|DISABLE|DO_NOT"
    r"|EMBEDDED|ENABLE|ENVIRONMENT|FALLBACK|FORCE(?!_COLOR)|GCE|GCLOUD|GCM|GH|GRACEFUL|GRPC|IDE|IS"
    r"|JSC|LOCAL|MAX|MCP|METADATA|MIMALLOC|NIX_SSL|OAUTH|OTEL|POLICY|SANDBOX|SDK|SELF_HOSTED"
    r"|SESSION|SLASH_COMMAND|SRT|SWE_BENCH|SYSTEM|TASK_MAX|TEAM|TEST_(?:ENABLE|GRACEFUL)|ULTRAPLAN"
    r"|UNDICI|USE|USER_TYPE|VITALS|VOICE)(?:_[A-Z0-9_]*)?)",
    re.I,
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")

# Keys that do nothing in a box, whose hooks are off, which has no screen and asks nobody (mode,
# allow rules), and which starts no MCP server.
_IDLE = frozenset(
    {
        "$schema", "hooks", "statusLine", "subagentStatusLine", "fileSuggestion",
        "enableAllProjectMcpServers", "enabledMcpjsonServers", "disabledMcpjsonServers",
        "companyAnnouncements", "spinnerTipsEnabled", "spinnerTipsOverride", "spinnerVerbs",
        "theme", "editorMode", "prefersReducedMotion", "terminalProgressBarEnabled",
        "showTurnDuration", "autoUpdatesChannel", "preferredNotifChannel", "disableAllHooks",
    }
)  # fmt: skip
_IDLE_PERMISSIONS = frozenset({"allow", "defaultMode", "additionalDirectories"})
# Keys that count as they are, with the type that they must have.
_CARRIED: Mapping[str, type] = {
    "includeCoAuthoredBy": bool,
    "respectGitignore": bool,
    "language": str,
    "outputStyle": str,
}
# It leaves pieces of the work to a person, of whom there is none in a box.
_STYLE_FOR_A_PERSON = "learning"

_RULE = re.compile(r"([A-Za-z][A-Za-z0-9_*-]{0,200})(?:\((.*)\))?", re.S)
_OF_PATHS = frozenset({"Read", "Edit", "Write", "MultiEdit", "NotebookEdit", "Glob", "Grep"})
_OF_NAMES = frozenset({"WebFetch", "WebSearch", "Agent", "Task", "Skill", "SlashCommand"})
_BARE = frozenset({"WebFetch", "WebSearch", "NotebookEdit", "PowerShell", "LSP"})
# What no run can do without: a shell, and to see and commit its work.
_SHELL = frozenset({"bash", "sh", "cd", "ls", "cat", "echo", "env", "test", "true", "pwd", "find"})
_GIT_NEEDED = frozenset({"add", "commit", "status", "diff", "log", "show", "rev-parse", "config"})


@dataclass(frozen=True)
class Judged:
    """One settings file: what of it counts in the box, and what does not.

    ``carried`` is laid into plandock's own settings; ``aside`` names, without a value, what does
    nothing; ``stands`` are the file's deny rules that hold in the box as well, ``deny`` the same
    rules as the CLI is given them.
    """

    file: str
    carried: dict[str, Any] = field(default_factory=dict)
    aside: list[str] = field(default_factory=list)
    stands: list[str] = field(default_factory=list)
    deny: list[str] = field(default_factory=list)


def judge_folder(folder: str, taken: Iterable[str] = ()) -> list[Judged]:
    """The settings files that the CLI may read where it is started in a folder; raises nothing.

    Both of that folder, and since some 2.1.3xx the local one of the repository's top (measured);
    any other on the way up is set aside, lest a later version reads it.  ``taken`` are variables
    whose values are plandock's own to set.
    """
    found = []
    folders = up_to_the_top(folder)
    for place in folders:
        for name in FILES:
            path = os.path.join(place, ".claude", name)
            if not os.path.lexists(path):
                continue
            is_read = place == folder or (place == folders[0] and name == FILES[1])
            held = _read(path) if is_read else "all of it (it lies above the folder of the plan)"
            if isinstance(held, dict):
                found.append(judge(held, path, folder, taken))
            else:
                found.append(Judged(path, aside=[held]))
    return found


def up_to_the_top(folder: str) -> list[str]:
    """The folders from the repository's top down to one of its folders."""
    found = [folder]
    while not os.path.lexists(os.path.join(found[0], ".git")):
        above = os.path.dirname(found[0])
        if above == found[0]:
            return [folder]
        found.insert(0, above)
    return found


def judge(settings: Mapping[str, Any], file: str, folder: str, taken: Iterable[str] = ()) -> Judged:
    """What of one file's settings counts in the box."""
    judged = Judged(file)
    for name, value in settings.items():
        if value in (None, "", [], {}) or name in _IDLE:
            continue
        if name == "env":
            _variables(value, judged, frozenset(taken))
        elif name == "permissions":
            _permissions(value, judged, folder)
        elif name == "attribution" and _is_attribution(value):
            judged.carried[name] = value
        elif type(value) is _CARRIED.get(name) and _is_short(value):
            if name == "outputStyle" and str(value).strip().lower() == _STYLE_FOR_A_PERSON:
                judged.aside.append("outputStyle (it leaves work to a person)")
            else:
                judged.carried[name] = value
        else:
            judged.aside.append(_shown(name))
    return judged


def merged(found: Iterable[Judged]) -> dict[str, Any]:
    """What counts of all files together; the later one wins, deny rules add up."""
    result: dict[str, Any] = {}
    deny: list[str] = []
    env: dict[str, str] = {}
    for judged in found:
        result |= judged.carried
        env |= judged.carried.get("env", {})
        deny += judged.deny
    if env:
        result["env"] = env
    if deny:
        result["permissions"] = {"deny": list(dict.fromkeys(deny))}
    return result


def lines(judged: Judged, folder: str) -> Iterator[str]:
    """What is to be said of a file, in sentences: at most two."""
    file = os.path.relpath(judged.file, folder)
    if judged.aside:
        yield f"set aside in the box, of {file}: {_some(judged.aside)}"
    if judged.stands:
        yield f"denied in the box too, as {file} says: {_some(judged.stands)}"


def _read(path: str) -> dict[str, Any] | str:
    """The file's object, or what is wrong with it.  Never waits: it may be a pipe."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return "all of it (it is no regular file)"
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            return "all of it (it is too large)"
        text = decoded(data)
        held = json.loads(text) if text.strip() else {}
    except (OSError, ValueError, RecursionError):
        return "all of it (it cannot be read)"
    return held if isinstance(held, dict) else "all of it (it holds no settings)"


def decoded(data: bytes) -> str:
    """A settings file's text as the CLI decodes it (measured, both versions): a stray byte does not
    make it invalid."""
    coding = "utf-16-le" if data.startswith(b"\xff\xfe") else "utf-8"
    return data.decode(coding, "replace").removeprefix("\ufeff")


def _variables(block: object, judged: Judged, taken: frozenset[str]) -> None:
    if not isinstance(block, dict):
        judged.aside.append("env")
        return
    env: dict[str, str] = {}
    for name, value in block.items():
        if is_harmless(name) and name not in taken and len(env) < _MOST_VARIABLES:
            text = value if isinstance(value, str) else json.dumps(value)
            if len(text) <= _LONGEST_VALUE and "\0" not in text:
                env[name] = text
                continue
        judged.aside.append(f"env.{_shown(name)}")
    if env:
        judged.carried["env"] = env


def is_harmless(name: str) -> bool:
    """Whether a variable is the project's own, and decides nothing about the box or the CLI."""
    return (
        _VARIABLE.fullmatch(name) is not None
        and SENSITIVE.fullmatch(name) is None
        and _OF_THE_CLI.fullmatch(name) is None
    )


def _permissions(block: object, judged: Judged, folder: str) -> None:
    if not isinstance(block, dict):
        judged.aside.append("permissions")
        return
    for name, value in block.items():
        if not value or name in _IDLE_PERMISSIONS:
            continue
        if name != "deny" or not isinstance(value, list):
            judged.aside.append(f"permissions.{_shown(name)}")
            continue
        for rule in value:
            given = _from_its_project(rule, judged.file)
            if len(judged.stands) < _MOST_RULES and holds(given, folder):
                judged.stands.append(rule)
                judged.deny.append(given)
            else:
                judged.aside.append(f"the denial of {_shown(rule)}")


def _from_its_project(rule: object, file: str) -> Any:
    """The rule with ``/x`` as an absolute path: read by the CLI it counts from the project of its
    settings file, in settings given by ``--settings`` from somewhere else (measured)."""
    found = _RULE.fullmatch(rule) if isinstance(rule, str) else None
    if found is None or found.group(1) not in _OF_PATHS:
        return rule
    content = found.group(2) or ""
    if not content.startswith("/") or content.startswith("//"):
        return rule
    # Any one character instead of one that has a meaning in a pattern.
    project = re.sub(r"[*?\[\]{}!#\\]", "?", os.path.dirname(os.path.dirname(file)))
    return f"{found.group(1)}(/{project.rstrip('/')}{content})"


def holds(rule: object, folder: str) -> bool:
    """Whether a deny rule holds in the box: one that is understood, and that leaves a run able to
    read, write, use a shell and commit."""
    found = _RULE.fullmatch(rule) if isinstance(rule, str) and len(rule) <= _LONGEST_RULE else None
    if found is None:
        return False
    tool, content = found.group(1), found.group(2)
    if tool.startswith("mcp__"):
        return True
    if content is None:
        return tool in _BARE
    if tool in _OF_PATHS:
        return _is_a_part(content, folder)
    if tool == "Bash":
        return _is_dispensable(content)
    return tool in _OF_NAMES and re.search(r"\w", content) is not None


def _is_a_part(pattern: str, folder: str) -> bool:
    """Whether a pattern of paths names something, and not the whole work tree."""
    if pattern.startswith("//"):  # an absolute path
        fixed = re.split(r"[*?\[{]", pattern[1:])[0]
        if fixed != pattern[1:]:
            fixed = fixed.rpartition("/")[0]
        fixed = fixed.rstrip("/")
        if f"{folder}/".startswith(f"{fixed}/"):
            if fixed != folder:
                return False
            pattern = pattern[1 + len(fixed) :]  # it names what lies below
    named = re.sub(r"\[[^\]]*\]?", "", pattern.removeprefix("~"))
    return re.search(r"\w", named) is not None


def _is_dispensable(command: str) -> bool:
    """Whether a run can do without the commands that a pattern names."""
    words = command.removesuffix(":*").split()
    if not words or "*" in words[0] or re.search(r"\w", words[0]) is None:
        return False
    program = words[0].rpartition("/")[2]
    if program == "git":
        second = words[1] if len(words) > 1 else ""
        return re.fullmatch(r"[a-z][a-z-]*", second) is not None and second not in _GIT_NEEDED
    return program not in _SHELL


def _is_attribution(value: object) -> bool:
    return isinstance(value, dict) and all(
        name in ("commit", "pr") and isinstance(text, str) and _is_short(text)
        for name, text in value.items()
    )


def _is_short(value: object) -> bool:
    return not isinstance(value, str) or (len(value) <= 2000 and "\0" not in value)


def _shown(name: object) -> str:
    """A name out of a hostile file, fit for a line of a report."""
    return ascii(name)[1:-1][:64] if isinstance(name, str) else "something that is no text"


def _some(names: list[str]) -> str:
    shown = [ascii(n)[1:-1][:100] for n in names[:MOST_NAMES]]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(shown) + more
