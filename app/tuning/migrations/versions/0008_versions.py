"""Versions of trials and attempts, what can be changed of a job, and what is known of a worker."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# What another version has written may be anything.
NAMES = {
    "sqlite": "CASE WHEN json_valid(spec) THEN json_extract(spec, '$.name') END",
    "postgresql": "spec ->> 'name'",
}
LABELS = {
    "sqlite": "CASE WHEN json_valid(spec) AND json_type(spec, '$.labels') = 'object' "
    "THEN json_extract(spec, '$.labels') ELSE '{}' END",
    "postgresql": "CASE WHEN json_typeof(spec -> 'labels') = 'object' THEN spec -> 'labels' ELSE '{}' END",
}


def upgrade() -> None:
    for table in ("trials", "attempts"):
        op.add_column(table, sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
    op.create_index("ix_trials_version", "trials", ["job_id", "version"])
    op.add_column("jobs", sa.Column("name", sa.String(length=255), nullable=True))
    op.add_column("jobs", sa.Column("labels", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("jobs", sa.Column("note", sa.Text(), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("edit_version", sa.Integer(), nullable=False, server_default="1"))
    database = op.get_bind().dialect.name
    op.execute(f"UPDATE jobs SET name = substr({NAMES[database]}, 1, 255), labels = {LABELS[database]}")
    op.add_column("workers", sa.Column("started_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("workers", sa.Column("device", sa.String(length=255), nullable=True))
