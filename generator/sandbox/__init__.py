"""A Jinja sandbox: what the expressions of a template may do, within which limits, and what they draw at random."""
