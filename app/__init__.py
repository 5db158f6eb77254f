"""The HTTP shell: the REST API, the command line and the one-command launcher."""
