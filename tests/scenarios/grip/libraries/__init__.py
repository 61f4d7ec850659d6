"""The same small application written with each of the libraries that people use for GRIP, as they would write it.

Each answers:

    GET  /signed                                  `signed` when the library believes the request came through the proxy
    GET  /poll?channel=C[&timeout=S][&status=N]   held until somebody publishes; then `nothing yet`
    GET  /stream?channel=C[&keepalive=S]          a stream, `opened` first
    WS   /socket                                  echo, and the commands below
    POST /publish?channel=C&kind=K&text=T         publish with the library; kinds: message, close

Commands on the socket: `subscribe C`, `unsubscribe C`, `detach`, `count` (counts in meta), `close [code]`.
"""
