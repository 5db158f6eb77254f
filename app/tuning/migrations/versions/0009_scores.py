"""Scores beside accuracies, which they have been so far, and the refit's confusion matrix."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

COPIED = {
    "jobs": {"best_score": "best_accuracy"},
    "trials": {
        "validation_score": "validation_accuracy",
        "validation_score_std": "validation_accuracy_std",
    },
    "fits": {"score": "accuracy"},
}


def upgrade() -> None:
    for table, columns in COPIED.items():
        for score in columns:
            op.add_column(table, sa.Column(score, sa.Double(), nullable=True))
        op.execute(f"UPDATE {table} SET " + ", ".join(f"{score} = {old}" for score, old in columns.items()))
    op.add_column("fits", sa.Column("confusion", sa.JSON(), nullable=True))
    for name in ("", "_std"):
        op.execute(f"ALTER TABLE places RENAME COLUMN accuracy{name} TO score{name}")
    op.drop_index("ix_trials_accuracy", "trials")
    op.drop_index("ix_trials_rank", "trials")
    op.create_index("ix_trials_score", "trials", ["job_id", "validation_score", "number"])
    op.create_index("ix_trials_rank", "trials", ["job_id", "n_resources", "validation_score"])
