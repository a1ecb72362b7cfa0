"""Find mistakes in a template."""
