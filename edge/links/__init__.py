"""Long-lived outbound streams: how XMPP servers are reached, and what is known of how to log in."""
