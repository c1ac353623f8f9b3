"""BERT toolkit: what the scripts share."""
