"""Jobs are deleted a little at a time, and renewals that were missed are noted."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

Utc = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "deletions",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", Utc, nullable=False),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.add_column("fits", sa.Column("doubted_at", Utc, nullable=True))
