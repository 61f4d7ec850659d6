"""Commands that talk to a running edge from outside; they need the base install only."""
