"""The record of a run: what it writes to its directory, to trackers and to the terminal."""
