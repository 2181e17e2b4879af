"""The benchmark behind `make bench`: what plandock costs, against the bare thing beside it.

Everything measured is real: the wired hook commands, the CLI, the engine, git.  The model alone is
scripted.  It reports and never judges: no figure of it makes a test fail.
"""
