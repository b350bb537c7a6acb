"""Looking after a repository without a key: retention, pruning, scrubbing, checking, rebuilding.

Imports the engine in `appliance.store`; of the engine only the façade imports back (check). Nothing here is needed to
take a backup or to give a file back.
"""
