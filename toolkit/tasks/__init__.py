"""Tasks: reading, encoding and decision of each, and its head and loss."""
