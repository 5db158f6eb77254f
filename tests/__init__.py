"""Tests; their client calls the service by a name that a service answers to only where it is told so."""

import os

os.environ["TUNEWELL_ALLOWED_HOSTS"] = "testserver"
