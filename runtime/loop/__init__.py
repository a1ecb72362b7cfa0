"""The position of a run, its walk through epochs and steps, and its end."""
