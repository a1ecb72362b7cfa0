"""Shards: finding and reading their files, the index of their samples, and the formats."""
