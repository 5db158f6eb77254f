"""`python -m app.tuning.migrations`: bring the database of the settings to the newest schema."""

import logging
import sys

from sqlalchemy.exc import SQLAlchemyError

from app.tuning import logs, outages
from app.tuning.database import connect
from app.tuning.migrations import UnusableDatabase, migrate
from app.tuning.settings import EXIT_MISCONFIGURED, settings

logs.set_up_logging()
log = logging.getLogger("tunewell.migrations")
try:
    migrate(connect(settings().database))
except UnusableDatabase as error:
    log.error(str(error))
    sys.exit(EXIT_MISCONFIGURED)
except (SQLAlchemyError, OSError) as error:
    told = {"reason": outages.explain_failure(error)}
    if "password authentication failed" in told["reason"]:
        told["advice"] = "the role keeps the password it was made with: use that, or change it with ALTER ROLE"
    log.error("the database cannot be used", extra=told)
    sys.exit(1)
