"""How `Checkpoints` saves state, chooses the checkpoint to resume from, and restores it."""
