"""Set-up of a machine for demo and tests: engines, base image, the real Claude Code CLI.

`python -m tools.setup --help` lists the steps.  Everything is kept in one folder
(`PLANDOCK_SETUP_DIR`, by default `.setup/` of the clone), each step looks before it acts, and
what is installed comes from the package clients as this machine has them configured.
"""
