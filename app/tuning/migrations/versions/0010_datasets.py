"""Own data sets, and the content that a job trains on."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "datasets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_index("ix_datasets_newest", "datasets", ["created_at", "id"])
    op.create_index("ix_datasets_sha256", "datasets", ["sha256"])
    op.add_column("jobs", sa.Column("dataset_sha256", sa.String(length=64), nullable=True))
    op.create_index("ix_jobs_dataset_sha256", "jobs", ["dataset_sha256"])
