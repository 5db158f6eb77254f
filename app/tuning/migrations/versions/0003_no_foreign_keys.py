"""Trials and fits lose their foreign keys, which took as long to check as the rows to write."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NAMES = {"fk": "%(table_name)s_%(column_0_N_name)s_fkey"}  # as PostgreSQL names them; SQLite knows no names


def upgrade() -> None:
    with op.batch_alter_table("fits", naming_convention=NAMES) as fits:
        fits.drop_constraint("fits_job_id_trial_number_fkey", type_="foreignkey")
        fits.drop_constraint("fits_job_id_fkey", type_="foreignkey")
    with op.batch_alter_table("trials", naming_convention=NAMES) as trials:
        trials.drop_constraint("trials_job_id_fkey", type_="foreignkey")
