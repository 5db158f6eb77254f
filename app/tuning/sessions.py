"""The limits of every PostgreSQL session, also behind a pooler such as PgBouncer, which takes none at connect."""

from typing import Any

from sqlalchemy import Connection, Engine, event

LIMITS = {"statement_timeout": "30s", "idle_in_transaction_session_timeout": "30s", "TimeZone": "UTC"}
OPTIONS = " ".join(f"-c {name}={value}" for name, value in LIMITS.items())
SETTINGS = ", ".join(f"current_setting('{name}')" for name in LIMITS)
FOR_THIS_TRANSACTION = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in LIMITS.items())
POOLED = "pooled"  # in a connection's info: a pooler may give each of its transactions another session


def limit_sessions(engine: Engine) -> None:
    """Give the engine's sessions their limits: at connect, which costs nothing later, or else in each transaction."""
    event.listen(engine, "do_connect", _connect)
    event.listen(engine, "begin", _begin)


def _connect(dialect: Any, record: Any, arguments: Any, parameters: dict[str, Any]) -> Any:
    own = parameters.get("options")
    try:
        made = dialect.connect(*arguments, **parameters | {"options": f"{own or ''} {OPTIONS}"})
    except dialect.dbapi.OperationalError as error:
        if own or "unsupported startup parameter" not in str(error):
            raise
        made = dialect.connect(*arguments, **parameters)
    if made.execute(f"SELECT {SETTINGS}").fetchone() != tuple(LIMITS.values()):
        made.prepare_threshold = None  # prepared in one session, it would be missing in the next
        record.info[POOLED] = True
    made.rollback()
    return made


def _begin(connection: Connection) -> None:
    if connection.info.get(POOLED):
        connection.exec_driver_sql(f"SELECT {FOR_THIS_TRANSACTION}")
