"""Opening a machine's backups on the appliance, for people who restore by the web: only where the key is confided.

The key lives in a process of its own (`opener`), in memory, for as long as one person restores from one machine; the
web process, which talks to the network, never holds it.
"""
