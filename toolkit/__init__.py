"""The package of the BERT toolkit: tasks, training, serving, formats, records, metrics."""
