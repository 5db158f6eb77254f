"""The web page: one more client of the REST API."""
