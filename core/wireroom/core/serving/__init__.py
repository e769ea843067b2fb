"""One connection's way through the layers: what the hub does with an input.

`opening` takes requests and handshakes, `messages` takes frames to handlers, `closing` ends what
was opened, and `calls` runs the application's handlers for all of them.
"""
