"""The user's code follows what a template, or the runtime, has renamed: Python files in, edits and uses out."""
