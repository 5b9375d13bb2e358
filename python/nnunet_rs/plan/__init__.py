"""Decide by rule: from a dataset's fingerprint to a plan. Arithmetic only; nothing here knows torch."""
