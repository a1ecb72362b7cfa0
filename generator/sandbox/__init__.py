"""A Jinja sandbox for templates: limits on time and size, recorded random values, and regular expressions."""
