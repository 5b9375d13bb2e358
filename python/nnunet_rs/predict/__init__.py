"""Use: sliding windows, export to the original grid, ensembles, post-processing, scores."""
