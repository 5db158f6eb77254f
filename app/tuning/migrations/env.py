"""Alembic's entry: migrations run on the connection, and in the transaction, of `migrate`."""

from alembic import context

from app.tuning.tables import Table

context.configure(connection=context.config.attributes["connection"], target_metadata=Table.metadata)
context.run_migrations()
