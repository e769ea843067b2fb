"""One client's connection as an application uses it, above `wire`: time, queues and requests."""
