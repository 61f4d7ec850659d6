"""Pure rules: facts and `now` in, orders out. No clock, no socket, no logger."""
