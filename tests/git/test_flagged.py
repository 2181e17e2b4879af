"""Files that change what runs on the host or in CI are named; ordinary ones are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plandock.workspace.flagged import flagged, reason

RUNS = """
.claude/settings.json .claude/hooks/x.sh CLAUDE.md sub/CLAUDE.md .mcp.json AGENTS.md .plandock.toml
.cursor/rules/x .github/copilot-instructions.md
.gitattributes .gitmodules .gitignore .gitconfig sub/.gitattributes .githooks/pre-commit
.husky/pre-push .husky/_/husky.sh .pre-commit-config.yaml lefthook.yml hooks/pre-commit
.github/workflows/ci.yml .github/actions/x/action.yml .github/dependabot.yml .gitlab-ci.yml
Jenkinsfile .circleci/config.yml .travis.yml azure-pipelines.yml .buildkite/pipeline.yml
.forgejo/workflows/x.yml action.yml
package.json web/package.json package-lock.json .npmrc .yarnrc .yarnrc.yml .yarn/releases/y.cjs
pnpm-lock.yaml vite.config.ts .eslintrc.json
pyproject.toml setup.py setup.cfg conftest.py tests/unit/conftest.py noxfile.py tox.ini pip.conf
requirements.txt requirements-dev.txt evil.pth sitecustomize.py
build.rs crates/a/build.rs Cargo.toml .cargo/config.toml rust-toolchain.toml
Makefile makefile GNUmakefile rules.mk justfile .justfile Justfile Taskfile.yml Rakefile
CMakeLists.txt build.gradle settings.gradle.kts gradlew gradle/wrapper/gradle-wrapper.jar pom.xml
BUILD.bazel go.mod Gemfile
.envrc .env .env.local .tool-versions .bashrc flake.nix
.vscode/tasks.json .vscode/settings.json .idea/workspace.xml x.code-workspace .vimrc .exrc
.dir-locals.el .gdbinit
Dockerfile Dockerfile.dev app.dockerfile Containerfile docker-compose.yml compose.yaml
.devcontainer/devcontainer.json .devcontainer.json main.tf
.netrc .ssh/config lib/x.so tool.exe x.bat
"""

ORDINARY = """
README.md src/main.py src/package.py docs/claude.txt src/git.py lib/hooks.py src/env.ts
makefile.txt src/Makefile.py.txt x/docker.md tests/test_setup.py src/build.py src/build/x.py
hooks/useThing.ts workspace/git.py src/app.js data/config.json a/github/x claude/x.py gitignore
src/vscode/x.ts notes/jenkins.md package.json.md src/requirements.py
"""


@pytest.mark.parametrize("path", RUNS.split())
def test_what_runs_elsewhere_is_flagged(path):
    """Each kind has a reason, at any depth and in any case."""
    assert reason(path)
    assert flagged([path, f"deep/er/{path}", path.upper()]) == sorted(
        [path, f"deep/er/{path}", path.upper()] if path != path.upper() else [path]
    )


@pytest.mark.parametrize("path", ORDINARY.split())
def test_ordinary_files_are_not_flagged(path):
    """A flag on everything would be a flag on nothing."""
    assert reason(path) == ""
    assert flagged([path]) == []


def test_the_answer_is_sorted_without_doubles_and_safe_to_print():
    """What is listed can be shown as it is."""
    found = flagged(["z/Makefile", "a/Makefile", "z/Makefile", "x\x1b[2J\udcff/package.json"])
    assert found == ["a/Makefile", "x\\x1b[2J\\xff/package.json", "z/Makefile"]


@given(st.text(max_size=60))
def test_any_text_is_taken(path):
    """No name makes it fail, and none takes long."""
    assert len(flagged([path])) <= 1
    assert flagged([f"{path}/Makefile"])[0].encode().endswith(b"/Makefile")
