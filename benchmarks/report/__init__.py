"""What a run leaves behind: a table for people, JSON for machines, plots."""
