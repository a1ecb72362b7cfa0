"""Run directories: read, listed, compared, drawn. Nothing here needs torch, numpy or the runtime."""
