"""Give a project its own copy of the runtime."""
