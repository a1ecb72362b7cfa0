"""The ground: trees of files and durable writes."""
