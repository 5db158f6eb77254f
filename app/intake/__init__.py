"""Checks an uploaded file and converts it into plain arrays, in a child process without rights or environment."""
