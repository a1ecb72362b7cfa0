"""Templates: found, read, and their questions answered."""
