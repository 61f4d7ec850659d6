"""A web chat for people with XMPP accounts, whose backend and edge may be killed at any time."""
