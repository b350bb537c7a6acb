"""The control database: who has which contract, machine and account, and what they did.

One SQLite file through sqlite-utils. Modules are nouns; functions take a `Database` first, return frozen
dataclasses, and take the time as `now` (seconds since 1970) wherever they decide by it. Knows nothing of
repositories, sockets or the web.
"""
