"""The agent: sees what changed on this machine, plans, sends, verifies and restores. Holds the keys; judges nobody."""

__version__ = "0.1.0"
