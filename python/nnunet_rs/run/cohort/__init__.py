"""Cohorts: many cases that workers on many machines share."""
