"""Sessions this edge owns: registry, executor, hub, ownership, timers."""
