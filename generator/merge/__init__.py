"""Three texts in, one out."""
