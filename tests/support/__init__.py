"""Helpers of the tests: projects, processes and trainings that several of them use."""
