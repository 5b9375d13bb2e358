"""Look: figures and tables of what was made."""
