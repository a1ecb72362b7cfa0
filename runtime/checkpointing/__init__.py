"""How `Checkpoints` does it: what it saves, where it resumes from, how it restores."""
