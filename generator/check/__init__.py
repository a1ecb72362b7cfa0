"""Check a merged project as a whole: what is wrong with it and with neither of the two projects that were merged."""
