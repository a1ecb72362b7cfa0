"""Read, list, compare and draw run directories. Nothing here needs torch, numpy or the runtime."""
