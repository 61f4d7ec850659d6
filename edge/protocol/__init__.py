"""Pure wire formats: bytes in, facts and orders out, and back. No clock, no socket, no logger."""
