"""Damage done for real: to workers, broker, database and API; what is promised is counted afterwards."""
