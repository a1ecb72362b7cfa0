"""Apply the renames of a template, or of the runtime, to the user's code: Python files in, edits and uses out."""
