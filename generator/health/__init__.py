"""Check a project, and repair its state."""
