"""What both ends must agree on: names, messages, sealing, deltas, trees and the channel. Stores nothing."""

PROTOCOL_VERSION = 1
"""Spoken by both ends in HELLO; a peer that names another one is refused with a sentence that says which to update."""
