"""Files, processes and versions."""
