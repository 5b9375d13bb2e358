"""Models and plans of other programs, both ways."""
