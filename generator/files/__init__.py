"""The ground: trees of files, allowed names, durable writes, ZIP files, git."""
