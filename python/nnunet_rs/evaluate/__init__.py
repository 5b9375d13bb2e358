"""Scores of segmentations: overlap and surface metrics, summaries, comparison. Needs no torch."""
