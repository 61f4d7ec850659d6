"""What held XMPP links need of the machine: sealed credentials, connections, and turns to log in."""
