"""What Claude Code tells its hooks about a plan, version by version."""
