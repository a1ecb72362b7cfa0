"""Test a template with pytest."""
