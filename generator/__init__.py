"""paccel: editable PyTorch training projects, generated once and upgraded for years."""

__version__ = "0.2.0"
