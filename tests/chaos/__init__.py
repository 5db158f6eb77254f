"""Real damage to workers, broker, database and API; afterwards the promises are checked."""
