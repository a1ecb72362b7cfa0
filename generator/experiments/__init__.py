"""What is done with runs: verified, repeated, tried in variants, described. What needs torch runs in the project's Python."""
