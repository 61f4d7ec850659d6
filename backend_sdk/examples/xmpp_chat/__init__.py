"""A web chat for people with XMPP accounts. Read `app.py` first; `make run-xmpp` starts it with a server of its own."""
