"""`python -m app.cli`: the `tunewell` command."""

from app.cli.commands import cli

cli()
