"""Answers in, a tree of files out."""
