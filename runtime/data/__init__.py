"""Samples: their order, and how they are fetched."""
