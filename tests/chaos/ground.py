"""What scenarios share: a folder, and servers that are started on first use."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

from tests.chaos.site import Site, site
from tests.support import servers


class Ground:
    """Makes sites on any kind of database, each with its own broker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._servers = ExitStack()
        self._postgres: servers.Postgres | None = None
        self._sites = 0

    def __enter__(self) -> "Ground":
        return self

    def __exit__(self, *reason: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._servers.close()

    @property
    def postgres(self) -> servers.Postgres:
        """The PostgreSQL server that all sites share."""
        if self._postgres is None:
            self._postgres = self._servers.enter_context(servers.postgres())
        return self._postgres

    def new_folder(self) -> Path:
        """An empty folder."""
        self._sites += 1
        folder = self.folder / f"site-{self._sites}"
        folder.mkdir(parents=True)
        return folder

    def new_database(self, kind: str) -> str:
        """The URL of an empty database, `sqlite` or `postgresql`."""
        return self.postgres.new_database() if kind == "postgresql" else f"sqlite:///{self.new_folder()}/tunewell.db"

    @contextmanager
    def site(self, kind: str = "sqlite", workers: int = 0, processes: int = 1) -> Iterator[Site]:
        """A site with its API and `workers` workers."""
        with servers.broker() as broker, site(self.new_folder(), self.new_database(kind), broker) as made:
            made.start_api()
            if workers:
                made.start_workers(workers, processes=processes)
            yield made
