"""What may stand in `egress`: names of hosts, and presets whose hosts the user's clients name.

Standard library only: the hook imports this.
"""

from __future__ import annotations

import re

PRESETS = ("npm", "pypi", "crates", "go", "debian")

# What people call them.
_ALIASES = {
    "npm": ("node", "nodejs", "npmjs", "npx", "pnpm", "yarn", "javascript"),
    "pypi": ("pip", "python", "uv", "poetry"),
    "crates": ("cargo", "rust", "crates-io"),
    "go": ("golang", "goproxy"),
    "debian": ("apt", "apt-get", "deb", "dpkg", "ubuntu"),
}
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
# A name whose last part is a number, or 0x and one, is an address literal to a resolver.
_NAME = re.compile(rf"({_LABEL}\.)+(?!0x[0-9a-f]*$)(?=[a-z0-9-]*[a-z])({_LABEL})")
# Below a country's own suffix: `*.co.uk` would be a whole country's companies.
_SECOND_LEVEL = frozenset(
    [
        "ac",
        "co",
        "com",
        "edu",
        "gen",
        "go",
        "gob",
        "gouv",
        "gov",
        "gv",
        "id",
        "ltd",
        "me",
        "mil",
        "ne",
        "net",
        "nhs",
        "nom",
        "or",
        "org",
        "plc",
        "sch",
        "web",
    ]
)
# Suffixes below which anybody at all may have a name (publicsuffix.org, private section): who
# allows one of these with a wildcard has allowed every visitor's server.
_ANYBODYS = """
    appspot.com azureedge.net azurefd.net azurewebsites.net backblazeb2.com bitbucket.io
    blogspot.com cloudapp.azure.com cloudapp.net cloudfront.net codeberg.page ddns.net deno.dev
    digitaloceanspaces.com duckdns.org dyndns.org eu.org firebaseapp.com fly.dev github.dev
    github.io githubusercontent.com gitlab.io gitpod.io glitch.me googleapis.com herokuapp.com
    hf.space hopto.org koyeb.app linodeobjects.com loca.lt localtunnel.me netlify.app
    netlify.com ngrok-free.app ngrok.app ngrok.dev ngrok.io nip.io no-ip.org now.sh
    ondigitalocean.app onrender.com pages.dev pythonanywhere.com r2.dev railway.app repl.co
    replit.app replit.dev run.app sharepoint.com sslip.io stackblitz.io storage.googleapis.com
    streamlit.app supabase.co supabase.in surge.sh trafficmanager.net translate.goog
    trycloudflare.com ts.net uk.com us.com vercel.app vercel.dev wasabisys.com web.app
    webcontainer.io webflow.io weebly.com wixsite.com wordpress.com workers.dev xip.io
    """
# The same at any depth below: `*.s3.eu-west-1.amazonaws.com`, `*.blob.core.windows.net`.
_ANYBODYS_DEEP = ("amazonaws.com", "windows.net")


def is_host_name(text: str) -> bool:
    """Whether this is a full host name: lower case, with a dot, no address, no wildcard."""
    return (
        len(text) <= 253 and bool(_NAME.fullmatch(text)) and text.rpartition(".")[2] != "localhost"
    )


def complaint(text: str) -> str:
    """What is wrong with one entry of `egress`; empty where nothing is."""
    name = text.lower()
    if name in PRESETS or is_host_name(name):
        return ""
    if name == "localhost" or name.endswith(".localhost"):
        return "this machine itself is never reachable"
    if "*" in name:
        return _wildcard(name)
    if "://" in name or "/" in name:
        return "write the host's name alone, without https:// and path"
    if re.fullmatch(r"\[?[0-9a-f:]*:[0-9a-f:]*:[0-9a-f:.]*\]?|[0-9.]+", name):
        return "an address cannot be allowed, write the host's name"
    if re.search(r":\d*$", name):
        return "write the name without a port, only 443 is open"
    if "." not in name:
        return f"a word without a dot is a preset: {', '.join(PRESETS)}{_suggestion(name)}"
    return "not the name of a host"


def _wildcard(name: str) -> str:
    base = name.removeprefix("*.")
    if name == "*" or not name.startswith("*.") or "*" in base:
        return "a wildcard stands only before a domain, such as *.example.com"
    if "." not in base:
        return "a wildcard needs two names after it, such as *.example.com"
    if not is_host_name(base):
        return "not the name of a host"
    second, _, last = base.rpartition(".")
    deep = any(base == x or base.endswith(f".{x}") for x in _ANYBODYS_DEEP)
    if deep or base in _ANYBODYS.split() or (len(last) == 2 and second in _SECOND_LEVEL):
        return f"anybody can have a name below {base}"
    return ""


def _suggestion(name: str) -> str:
    import difflib  # only where something is wrong

    for preset, others in _ALIASES.items():
        if name in others:
            return f" (did you mean {preset}?)"
    near = difflib.get_close_matches(name[:64], PRESETS, 1, 0.6)
    return f" (did you mean {near[0]}?)" if near else ""
