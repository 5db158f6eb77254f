"""The workers that are there, the data sets that they lack, and the data set of each job in a column of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

Utc = sa.DateTime(timezone=True)
NAMES = {
    "sqlite": "CASE WHEN json_valid(spec) THEN json_extract(spec, '$.dataset.name') END",
    "postgresql": "spec -> 'dataset' ->> 'name'",
}


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("last_seen", Utc, nullable=False),
        sa.Column("rests_until", Utc, nullable=True),
        sa.Column("faults", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "absences",
        sa.Column("worker", sa.String(length=255), nullable=False),
        sa.Column("dataset", sa.String(length=255), nullable=False),
        sa.Column("noted_at", Utc, nullable=False),
        sa.ForeignKeyConstraint(["worker"], ["workers.name"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("worker", "dataset"),
    )
    op.add_column("jobs", sa.Column("dataset", sa.String(length=255), nullable=False, server_default=""))
    name = NAMES[op.get_bind().dialect.name]
    op.execute(f"UPDATE jobs SET dataset = substr(coalesce({name}, ''), 1, 255)")
