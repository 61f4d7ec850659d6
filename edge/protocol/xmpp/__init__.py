"""XMPP streams, the client's side (RFC 6120, XEP-0198): wire formats and rules only, pure."""
