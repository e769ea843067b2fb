"""From a message to its handler: parsers, commands, contexts, and the kinds of module.

`module` is what an application builds, `function` the other kind (one `async def` a connection),
`views` the same as a class, `http` the plain requests. The hub knows them as a `SessionModule`.
"""
