"""File formats of models: checkpoints, output directories, HuggingFace."""
