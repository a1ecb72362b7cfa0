"""What a run writes for people."""
