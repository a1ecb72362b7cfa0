"""Three trees, a plan, a journal, the disk."""
