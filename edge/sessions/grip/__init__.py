"""Routes with ``protocol = "grip"``: WebSocket-over-HTTP, proxied HTTP, holds, and what is published to them."""
