"""A real S3 service on this machine, `weed mini` of SeaweedFS, for tests and for `make s3`.

Everything listens on 127.0.0.1, or on the one address it is given, and reports to nobody. As a
program it serves until Ctrl-C, or until the command after `--` has ended, which sees it through its
environment.
"""

import argparse
import os
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

KEY, SECRET = "naics", "naics-secret"
READY_S = 60.0  # it takes 1 to 2 s on an idle machine
GRPC = 10_000  # each service also takes its port plus this


def find_weed() -> str | None:
    """The binary: beside this interpreter, where the development group puts it, or on the path."""
    beside = shutil.which("weed", path=sysconfig.get_path("scripts"))
    return beside or shutil.which("weed")


class S3Server:
    """One server with its own folder and ports; use it with `with`."""

    def __init__(
        self,
        binary: str,
        folder: Path,
        port: int | None = None,
        host: str = "127.0.0.1",
        prefix: Sequence[str] = (),
    ) -> None:
        """Serve from `folder`, on `host`; `prefix` starts the command where that address is."""
        self.port = port or free_port()
        self.endpoint = f"http://{host}:{self.port}"
        self.log = folder / "weed.log"
        self._command = [*prefix, *_command(binary, folder, self.port, host)]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which s3fs, botocore and the aws command find it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def __enter__(self) -> Self:
        (self._folder / "data").mkdir(parents=True, exist_ok=True)
        keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        others = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "WEED_"))}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, cwd=self._folder, env={**others, **keys}
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()  # asked politely it takes up to 14 s
        self._process.wait()

    def client(self) -> Any:
        """A client that shares nothing with s3fs."""
        import botocore.session
        from botocore.config import Config

        return botocore.session.Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
        )

    def new_bucket(self, name: str | None = None) -> str:
        """Make a bucket and return its name."""
        bucket = name or f"test-{secrets.token_hex(6)}"
        client = self.client()
        client.create_bucket(Bucket=bucket)
        client.close()
        return bucket

    def _wait(self) -> None:
        """Return after a first object was written and removed."""
        from botocore.exceptions import BotoCoreError, ClientError

        assert self._process is not None
        client, deadline = self.client(), time.monotonic() + READY_S
        while True:
            try:
                with suppress(client.exceptions.BucketAlreadyOwnedByYou):
                    client.create_bucket(Bucket="ready")
                client.put_object(Bucket="ready", Key="probe", Body=b"x")
                client.delete_object(Bucket="ready", Key="probe")
                client.close()
                return
            except (BotoCoreError, ClientError) as error:
                gone = self._process.poll() is not None
                if gone or time.monotonic() > deadline:
                    tail = self.log.read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"weed mini does not serve: {error}\n{tail}") from error
                time.sleep(0.1)


def _command(binary: str, folder: Path, port: int, host: str) -> list[str]:
    own = ("master", "filer", "volume", "admin")
    return [
        *(binary, "mini", f"-dir={folder / 'data'}", f"-ip={host}", f"-ip.bind={host}"),
        *(f"-s3.port={port}", *(f"-{name}.port={free_port()}" for name in own)),
        *("-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        "-master.telemetry=false",
        # A bucket takes seven volumes, and there are as many as fit the free disk: with 128 MB each
        # (the default), 45 GB are full after 43 buckets with a byte in them.
        "-master.volumeSizeLimitMB=16",
    ]


def free_port() -> int:
    """A port that is free on the loopback, as is the one `GRPC` above it."""
    while True:
        port = 20_000 + secrets.randbelow(20_000)
        try:
            for number in (port, port + GRPC):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))
        except OSError:
            continue
        return port


def main() -> int:
    """Serve until Ctrl-C, or while a command runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8333)
    parser.add_argument("--bucket", default="naics", help="made at the start")
    parser.add_argument("command", nargs="*", help="after --: run this instead of waiting")
    options = parser.parse_args()
    binary = find_weed()
    if binary is None:
        print("weed is not installed: run `make setup`", file=sys.stderr)
        return 1
    with (
        tempfile.TemporaryDirectory(prefix="naics-s3-") as folder,
        S3Server(binary, Path(folder), options.port) as server,
    ):
        server.new_bucket(options.bucket)
        if options.command:
            environment = {**os.environ, **server.environment}
            return subprocess.run(options.command, env=environment, check=False).returncode
        for name, value in server.environment.items():
            print(f"export {name}={value}")
        print(f"# s3://{options.bucket}/ is there until Ctrl-C, in {folder}", flush=True)
        with suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)
        return 0


if __name__ == "__main__":
    sys.exit(main())
