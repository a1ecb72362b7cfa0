"""The settings of a run: a user's dataclass, converted, compared and read."""
