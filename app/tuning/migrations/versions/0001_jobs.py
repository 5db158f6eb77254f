"""Jobs, their trials, the trials' fits and these fits' epochs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True)
Utc = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("spec", JSON, nullable=False),
        sa.Column("max_parallel_fits", sa.Integer(), nullable=True),
        sa.Column("trials_total", sa.Integer(), nullable=False),
        sa.Column("trials_queued", sa.Integer(), nullable=False),
        sa.Column("trials_running", sa.Integer(), nullable=False),
        sa.Column("trials_succeeded", sa.Integer(), nullable=False),
        sa.Column("trials_failed", sa.Integer(), nullable=False),
        sa.Column("trials_cancelled", sa.Integer(), nullable=False),
        sa.Column("fits_total", sa.Integer(), nullable=False),
        sa.Column("fits_queued", sa.Integer(), nullable=False),
        sa.Column("fits_running", sa.Integer(), nullable=False),
        sa.Column("fits_succeeded", sa.Integer(), nullable=False),
        sa.Column("fits_failed", sa.Integer(), nullable=False),
        sa.Column("fits_cancelled", sa.Integer(), nullable=False),
        sa.Column("cost_left", sa.Double(), nullable=False),
        sa.Column("cost_done", sa.Double(), nullable=False),
        sa.Column("seconds_done", sa.Double(), nullable=False),
        sa.Column("parallel_fits", sa.Integer(), nullable=False),
        sa.Column("best_trial", sa.Integer(), nullable=True),
        sa.Column("best_accuracy", sa.Double(), nullable=True),
        sa.Column("environment", JSON, nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.Column("created_at", Utc, nullable=False),
        sa.Column("started_at", Utc, nullable=True),
        sa.Column("ended_at", Utc, nullable=True),
        sa.Column("last_claim_at", Utc, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_jobs_newest", "jobs", ["created_at", "id"], unique=False)
    op.create_index("ix_jobs_state", "jobs", ["state", "created_at", "id"], unique=False)
    op.create_table(
        "trials",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("params", JSON, nullable=False),
        sa.Column("cost", sa.Double(), nullable=False),
        sa.Column("validation_accuracy", sa.Double(), nullable=True),
        sa.Column("validation_accuracy_std", sa.Double(), nullable=True),
        sa.Column("fit_seconds", sa.Double(), nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "number"),
    )
    op.create_index("ix_trials_accuracy", "trials", ["job_id", "validation_accuracy", "number"], unique=False)
    op.create_index("ix_trials_state", "trials", ["job_id", "state", "number"], unique=False)
    op.create_table(
        "fits",
        sa.Column("id", BIG, nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("trial_number", sa.Integer(), nullable=True),
        sa.Column("fold", sa.Integer(), nullable=True),
        sa.Column("position", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lost_attempts", sa.Integer(), nullable=False),
        sa.Column("lease_until", Utc, nullable=True),
        sa.Column("worker", sa.String(length=255), nullable=True),
        sa.Column("accuracy", sa.Double(), nullable=True),
        sa.Column("loss", sa.Double(), nullable=True),
        sa.Column("fit_seconds", sa.Double(), nullable=True),
        sa.Column("score_seconds", sa.Double(), nullable=True),
        sa.Column("started_at", Utc, nullable=True),
        sa.Column("ended_at", Utc, nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.ForeignKeyConstraint(["job_id", "trial_number"], ["trials.job_id", "trials.number"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_fits_claim", "fits", ["job_id", "state", "position"], unique=False)
    op.create_index("ix_fits_lease", "fits", ["state", "lease_until"], unique=False)
    op.create_index("ix_fits_trial", "fits", ["job_id", "trial_number"], unique=False)
    op.create_table(
        "epochs",
        sa.Column("fit_id", BIG, nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("loss", sa.Double(), nullable=True),
        sa.Column("accuracy", sa.Double(), nullable=True),
        sa.Column("val_loss", sa.Double(), nullable=True),
        sa.Column("val_accuracy", sa.Double(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["fit_id"], ["fits.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("fit_id", "epoch"),
    )
