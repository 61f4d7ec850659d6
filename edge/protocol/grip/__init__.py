"""GRIP, the protocol of Pushpin and its backends: wire formats only, pure."""
