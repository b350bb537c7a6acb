"""The REST API under /api/v1, for the programs of software vendors. Tokens only; the gate stands in front of it."""
