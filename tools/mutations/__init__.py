"""Rules that are broken on purpose, one at a time, to see that a test guards each of them.

Run by `make mutations`; ARGS='NAME…' takes some, `--list` shows them.  :mod:`.mutation` says what
one is, :mod:`.hand_off`, :mod:`.sealing` and :mod:`.keeping` hold the rules, :mod:`.copied_tree`
makes the copy that is broken, :mod:`.trial` runs the tests on it.
"""
