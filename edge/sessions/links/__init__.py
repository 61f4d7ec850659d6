"""XMPP links: sessions whose far end is a server of the settings instead of a client."""
