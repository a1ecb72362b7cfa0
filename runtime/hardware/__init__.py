"""Processes, devices, precision and distribution."""
