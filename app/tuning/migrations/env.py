"""Alembic's entry: migrations run on the connection, and in the transaction, of `migrate`."""

from alembic import context

from app.tuning.jobs.tables import Table

given = context.config.attributes
context.configure(connection=given["connection"], target_metadata=Table.metadata, version_table=given["version_table"])
context.run_migrations()
