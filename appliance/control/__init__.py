"""The control database: who has which contract, machine and account, and what they did.

One SQLite file through sqlite-utils. Modules are nouns; functions take a `Database` first, return frozen
dataclasses, and take the time as `now` (seconds since 1970) wherever they decide by it. Of the repository engine
it knows pure nouns only (retention's policy, the clock's verdict, counted changes); nothing of sockets or the web.
"""
