"""The test suite; a package, so that no stray top-level `tests` of another project is found."""
