"""Files, processes, precision and versions."""
