"""Upgrade a project: three trees become a plan, the plan a journal, the journal the files on the disk."""
