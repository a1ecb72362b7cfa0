"""State on disk: checkpoints and weights."""
