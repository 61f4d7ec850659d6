"""Write a Holdfast backend: a plain HTTP handler that answers events with actions."""
