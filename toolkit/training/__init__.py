"""Training runs: flags, output directories, the estimator, hooks, evaluation, distribution."""
