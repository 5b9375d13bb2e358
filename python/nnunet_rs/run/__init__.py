"""Many things at once: one model end to end, series of models, the demo."""
