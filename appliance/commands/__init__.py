"""The subcommands of `pilulier`, a module per noun.

Each module has `register(commands, common)`, which adds its parsers, and functions `(Invocation) -> int` that do the
work and return an exit code. Parsers load nothing heavy: a command imports what it needs when it runs.
"""
