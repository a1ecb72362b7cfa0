"""Where a run is, and its walk through epochs and steps."""
