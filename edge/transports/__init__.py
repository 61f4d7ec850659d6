"""How clients reach a session: WebSocket here; SSE and holds later."""
