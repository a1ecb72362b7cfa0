"""The runtime as a package of a project's own: what `paccel eject` copies, and how it rewrites the project for it."""
