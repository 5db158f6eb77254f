"""The command line: a client of the HTTP service."""
