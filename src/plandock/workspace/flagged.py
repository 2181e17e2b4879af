"""Files that change what runs on the host or in CI, so that a reviewer reads them first.

Nothing here is refused: agents are asked to edit such files all the time.  They are listed,
because merging or opening them is what turns text into running code.  Matching is
case-insensitive (macOS) and at any depth.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from plandock.printable import spelled

# Each rule: patterns over the lower-case path, written like .gitignore (`*` within one name, a
# trailing slash for everything in a folder), and what makes the file worth a look.
_TABLE: tuple[tuple[str, str], ...] = (
    (".claude/ .claude.json claude.md claude.local.md .mcp.json agents.md gemini.md .cursor/"
     " .cursorrules .windsurf/ .windsurfrules .clinerules .aider* .codex/ .gemini/ .continue/"
     " .github/copilot* .roo/ .plandock.toml",
     "instructs or configures a coding agent"),
    (".git* .lfsconfig .mailmap", "configures git"),
    ("head commondir packed-refs *.git/", "may make git take its folder for a repository"),
    (".husky/ .githooks/ githooks/ git-hooks/ hooks/pre-* hooks/post-* hooks/commit-msg"
     " hooks/prepare-commit-msg .pre-commit-config.y*ml .pre-commit-hooks.y*ml lefthook*"
     " .lefthook/ .overcommit.yml .lintstagedrc* lint-staged.config.* .huskyrc*",
     "runs on git operations"),
    (".github/ .gitlab-ci* .gitlab/ jenkinsfile* *.jenkinsfile .circleci/ .travis.y*ml"
     " azure-pipelines* .azure-pipelines/ bitbucket-pipelines* appveyor* .appveyor* .drone*"
     " .woodpecker* .buildkite/ cloudbuild* .cirrus* .semaphore/ .teamcity/ .forgejo/ .gitea/"
     " buildspec.y*ml codemagic* wercker.y*ml .tekton/ .ci/ action.y*ml earthfile dagger.json"
     " renovate.json* .renovaterc* vercel.json netlify.toml fly.toml procfile app.yaml",
     "runs in CI or on deployment"),
    ("package.json .npmrc .yarnrc* .yarn/ .pnp.* .pnpmfile.* pnpmfile.* pnpm-workspace.yaml"
     " bunfig.toml deno.json* lerna.json nx.json turbo.json *.gypi binding.gyp",
     "scripts and settings of the JavaScript package client"),
    ("package-lock.json npm-shrinkwrap.json yarn.lock pnpm-lock.yaml bun.lock* poetry.lock"
     " uv.lock pdm.lock pipfile.lock cargo.lock go.sum gemfile.lock composer.lock flake.lock"
     " pixi.lock",
     "pins what is downloaded and run"),
    ("*.config.js *.config.cjs *.config.mjs *.config.ts *.config.mts *.config.cts .eslintrc*"
     " .prettierrc* .babelrc* .mocharc* .stylelintrc* gruntfile.* gulpfile.* jakefile*"
     " .swcrc karma.conf.*",
     "is loaded by a JavaScript build or test tool"),
    ("pyproject.toml setup.py setup.cfg conftest.py pytest.ini tox.ini noxfile.py .pythonrc*"
     " pip.conf pip.ini .pypirc pipfile requirements*.txt constraints*.txt sitecustomize.py"
     " usercustomize.py *.pth hatch_build.py dodo.py fabfile.py tasks.py uv.toml hatch.toml"
     " pdm.toml pixi.toml environment.y*ml .python-version .pylintrc mypy.ini .coveragerc"
     " .pdbrc .startup.py ipython_config.py",
     "is run or loaded by Python tools"),
    ("build.rs .cargo/ cargo.toml rust-toolchain* clippy.toml rustfmt.toml",
     "runs or is loaded in a Rust build"),
    ("makefile gnumakefile *.mk *.make justfile .justfile *.just taskfile* magefile.go rakefile"
     " *.rake cmakelists.txt *.cmake cmakepresets.json meson.build sconstruct sconscript wscript"
     " configure configure.ac *.m4 build.xml pom.xml *.gradle *.gradle.kts gradle.properties"
     " gradlew* gradle/wrapper/ mvnw* .mvn/ build.sbt project/*.sbt build *.bazel *.bzl .bazelrc"
     " workspace module.bazel buck .buckconfig build.zig build.sh *.csproj *.vbproj *.fsproj"
     " *.targets *.props nuget.config *.sln *.vcxproj *.pbxproj gemfile *.gemspec .irbrc .rspec"
     " podfile composer.json mix.exs rebar.config package.swift *.cabal cabal.project*"
     " stack.yaml dune-project go.mod go.work deps.edn project.clj shadow-cljs.edn .lein*"
     " makefile.pl build.pl build.gn .gn vagrantfile brewfile mise.toml .mise* .miserc* mise/",
     "runs in a build"),
    (".envrc .env .env.* .direnv/ .tool-versions .nvmrc .node-version .ruby-version .bashrc"
     " .bash_profile .profile .zshrc .zshenv .zprofile .inputrc .tmux.conf .screenrc shell.nix"
     " default.nix flake.nix devenv.nix devbox.json .autoenv*",
     "is loaded by the shell on entering the folder"),
    (".vscode/ .idea/ .vs/ .fleet/ .zed/ .nova/ .sublime/ *.sublime-project *.code-workspace"
     " .vimrc .exrc .nvimrc .nvim.lua .nvim/ .vim/ .dir-locals* .gdbinit .lldbinit .emacs*"
     " .helix/ .kakrc  .project .classpath .settings/",
     "is loaded by an editor or debugger"),
    ("dockerfile* *.dockerfile containerfile* *.containerfile .dockerignore docker-compose*"
     " compose.y*ml compose.*.y*ml .devcontainer/ .devcontainer.json docker-bake.* skaffold.y*ml"
     " tiltfile .gitpod* devfile.y*ml .devfile.y*ml .coder/ helmfile.y*ml chart.yaml"
     " kustomization.y*ml *.tf *.tfvars .terraformrc terragrunt.hcl pulumi*.y*ml serverless.y*ml"
     " ansible.cfg playbook*.y*ml",
     "builds or starts containers or machines"),
    (".netrc .ssh/ .curlrc .wgetrc .hgrc .hg/ .svn/ .bzr/ .jj/ .sl/ .ripgreprc .ackrc .aws/"
     " .docker/ .kube/",
     "configures a tool on the host"),
    ("*.exe *.dll *.so *.so.* *.dylib *.node *.jar *.war *.pyd *.pyc *.pyo *.whl *.wasm *.msi"
     " *.app/ *.scpt *.lnk *.desktop *.service *.plist *.bat *.cmd *.ps1 *.vbs *.reg *.url"
     " *.command *.workflow/ *.terminal *.pkg *.dmg *.deb *.rpm",
     "can be run as it is"),
)  # fmt: skip


def _expression(pattern: str) -> str:
    body = re.escape(pattern.rstrip("/")).replace(r"\*", "[^/]*")
    return body + ("(?:/.*)?" if pattern.endswith("/") else "")


@functools.cache
def _rules() -> tuple[tuple[re.Pattern[str], str], ...]:
    """The table as expressions, made when first needed: a tenth of what every command imports.

    `.git*` is a file or a folder of any depth; every pattern may stand below any folder.
    """
    return tuple(
        (
            re.compile("(?:.*/)?(?:" + "|".join(_expression(x) for x in words.split()) + ")", re.S),
            reason,
        )
        for words, reason in _TABLE
    )


def reason(path: str) -> str:
    """Why a file is worth a look before merging; "" for an ordinary one."""
    folded = path.casefold()
    for pattern, why in _rules():
        if pattern.fullmatch(folded):
            return why
    return ""


def flagged(paths_changed: Iterable[str]) -> list[str]:
    """Those of the changed paths that change what runs on the host or in CI, sorted.

    Paths are relative to the repository's root with ``/`` between the parts; what has no shape
    of its own is spelled out in the answer.
    """
    return sorted({spelled(path) for path in paths_changed if reason(path)})
