"""Holdfast beside real XMPP servers."""
