"""The soak behind `make soak`: many runs through the queue, and what they leave behind.

Everything is real but the model: the wired hook, the CLI in its boxes, the engine, git.  What is
looked at belongs to the soak's own runs, so an engine may be shared while it goes on.
"""
