"""Searches by rungs, results that are used again, and what is known of a winner."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COUNTERS = {
    "jobs": ("trials_pruned", "unborn", "skipped", "epochs_trained", "epochs_reused"),
    "trials": ("bracket", "iter", "n_resources"),
    "fits": ("bracket", "iter"),
}


def upgrade() -> None:
    for table, names in COUNTERS.items():
        for name in names:
            op.add_column(table, sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("rungs", sa.JSON(), nullable=True))
    op.add_column("jobs", sa.Column("warm_points", sa.JSON(), nullable=True))
    op.add_column("jobs", sa.Column("irreproducible", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("selection", sa.JSON(), nullable=True))
    op.add_column("trials", sa.Column("origin", sa.String(length=16), nullable=False, server_default="search"))
    op.add_column("fits", sa.Column("n_resources", sa.Integer(), nullable=True))
    op.add_column("fits", sa.Column("hits", sa.LargeBinary(), nullable=True))
    op.add_column("fits", sa.Column("key", sa.String(length=64), nullable=True))
    op.add_column("fits", sa.Column("cached", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("fits", sa.Column("resumed_from", sa.Integer(), nullable=True))
    op.create_index("ix_fits_key", "fits", ["key"])
    op.create_index("ix_trials_rank", "trials", ["job_id", "n_resources", "validation_accuracy"])
    op.create_table(
        "places",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("bracket", sa.Integer(), nullable=False),
        sa.Column("iter", sa.Integer(), nullable=False),
        sa.Column("trial_number", sa.Integer(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=True),
        sa.Column("ended", sa.Boolean(), nullable=False),
        sa.Column("accuracy", sa.Double(), nullable=True),
        sa.Column("accuracy_std", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("job_id", "bracket", "iter", "trial_number"),
    )
