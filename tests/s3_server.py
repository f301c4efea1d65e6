"""A local S3 server in a process of its own: `python s3_server.py` prints its port and serves until it is ended.

Requests are answered one at a time, as S3 does for one key: moto by itself looks and then writes, so that of two
conditional writes at the same moment both could succeed. In buckets called `lax-…` conditions count for nothing, as
with servers that do not know them.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.server import create_backend_app
from werkzeug.serving import make_server


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    answer, one_at_a_time = create_backend_app("s3"), threading.Lock()

    def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/lax-"):
            environ.pop("HTTP_IF_NONE_MATCH", None)
        with one_at_a_time:
            return [b"".join(answer(environ, start))]

    server = make_server("127.0.0.1", 0, application, threaded=True)
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
