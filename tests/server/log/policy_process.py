"""The API of a ledger in its own process. The test sets its clock: the file named on the command line holds the present
moment. It prints its address and ends when its standard input ends."""

from __future__ import annotations

import io
import socket
import sys
import threading
from datetime import datetime
from pathlib import Path

import uvicorn

from api.app import create_app
from api.serving import server_options
from ledger.server.runtime import open_runtime
from ledger.server.settings import Settings


def main(moment: Path) -> None:
    def now() -> datetime:
        return datetime.fromisoformat(moment.read_text())

    settings = Settings()
    runtime = open_runtime(settings, now)
    app = create_app(settings, now=now, log_stream=io.BytesIO(), runtime=runtime)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="on", **server_options(settings)))
    serving = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    serving.start()
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.should_exit = True
    serving.join()
    runtime.close()
    listener.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
