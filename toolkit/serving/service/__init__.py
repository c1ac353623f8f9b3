"""The HTTP service of trained models."""
