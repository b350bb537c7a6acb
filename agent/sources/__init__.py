"""What a backup takes in besides the files as they lie there: hooks' work, databases' dumps, volumes' snapshots."""
