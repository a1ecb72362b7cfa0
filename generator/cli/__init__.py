"""The command line, and the only part that prints. Each command imports what it needs when it runs."""

from .main import main

__all__ = ["main"]
