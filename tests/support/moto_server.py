"""A real S3 server on 127.0.0.1, in a process of its own that a test can stop and start again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

from service.store.blob.names import S3Settings

BUCKET = "photos"
SECRET = "a-secret-of-the-tests"


class S3Server:
    """moto's server; it forgets its objects when it ends."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def settings(self, **other: Any) -> S3Settings:
        """How to reach its bucket."""
        return S3Settings(
            **{
                "url": f"s3://{BUCKET}/some/where",
                "endpoint": self.endpoint,
                "region": "us-east-1",
                "access_key_id": "tester",
                "secret_access_key": SECRET,
                "allow_http": True,
                "connect_timeout_s": 1.0,
                "timeout_s": 5.0,
                **other,
            }
        )

    def start(self, *, checks_keys: bool = False) -> S3Server:
        """Start it, on the port it had before if it had one, with an empty bucket.

        checks_keys: knows nobody's key, once the bucket is made.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", __name__, str(self.port)],
            env=os.environ | ({"INITIAL_NO_AUTH_ACTION_COUNT": "1"} if checks_keys else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def stop(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def freeze(self) -> None:
        """Let it take connections and answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def _serve(port: int) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    _, taken = server.get_host_and_port()
    boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{taken}",
        region_name="us-east-1",
        aws_access_key_id="tester",
        aws_secret_access_key=SECRET,
    ).create_bucket(Bucket=BUCKET)
    sys.stdout.write(f"{taken}\n")
    sys.stdout.flush()
    # The test's end of the pipe closes with it, however it ends.
    sys.stdin.read()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
