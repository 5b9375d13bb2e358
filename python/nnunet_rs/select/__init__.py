"""Model selection: cross-validation, the best configuration or pair, post-processing."""
