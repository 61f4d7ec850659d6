"""What outlives a process: sessions, channels, leases and the bus between edges, over Redis."""
