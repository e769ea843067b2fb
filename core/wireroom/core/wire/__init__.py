"""One connection on the wire: HTTP head, handshake, frames, deflate, and the table of its states.

Reading order: `states`, `http_head` and `request`, `handshake`, `framing`, `frames`, `deflate`.
`client` is the client's side of all of them.
"""
