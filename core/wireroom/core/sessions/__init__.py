"""Who is connected: fds, the registry, sessions with their outbox and inbox, and rooms."""
