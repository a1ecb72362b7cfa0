"""Whether a project is sound, and how it becomes so again."""
