"""A local page to look into volumes: what it shows, how it is served, and the widget for notebooks."""
