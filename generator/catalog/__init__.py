"""Templates: found, fetched and read."""
