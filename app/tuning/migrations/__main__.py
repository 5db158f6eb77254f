"""`python -m app.tuning.migrations`: bring the database of the settings to the newest schema."""

from app.tuning import logs
from app.tuning.database import connect
from app.tuning.migrations import migrate
from app.tuning.settings import settings

logs.set_up()
migrate(connect(settings().database))
