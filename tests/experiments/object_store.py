"""A small S3: objects in memory, with the conditional writes that commits need."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

_WHEN = "Mon, 01 Jun 2026 12:00:00 GMT"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    objects: dict[str, bytes]
    lock: threading.Lock

    def log_message(self, *_: Any) -> None:
        pass

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).split("/", 2)[2]

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            raise NotImplementedError
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", _WHEN)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_PUT(self) -> None:
        body, key = self._body(), self._key()
        with self.lock:
            if self.headers.get("If-None-Match") == "*" and key in self.objects:
                self._answer(412)
                return
            self.objects[key] = body
        self._answer(200, ETag=f'"{hash(body):x}"')

    def do_DELETE(self) -> None:
        self.objects.pop(self._key(), None)
        self._answer(204)

    def do_POST(self) -> None:
        keys = re.findall(r"<Key>(.*?)</Key>", self._body().decode())
        for key in keys:
            self.objects.pop(unquote(key), None)
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self._answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def do_HEAD(self) -> None:
        body = self.objects.get(self._key())
        if body is None:
            self._answer(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", _WHEN)
        self.send_header("ETag", f'"{hash(body):x}"')
        self.end_headers()

    def do_GET(self) -> None:
        if self.path.startswith("/closed"):
            self._answer(403, b"<Error><Code>AccessDenied</Code></Error>")
            return
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            self._list(query)
            return
        body = self.objects.get(self._key())
        if body is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        tag = f'"{hash(body):x}"'
        ranged = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if ranged is None:
            self._answer(200, body, ETag=tag)
            return
        if ranged[1]:
            start, end = int(ranged[1]), min(int(ranged[2] or len(body)), len(body) - 1)
        else:
            start, end = max(len(body) - int(ranged[2]), 0), len(body) - 1
        part = body[start : end + 1]
        self._answer(206, part, ETag=tag, Content_Range=f"bytes {start}-{end}/{len(body)}")

    def _list(self, query: dict[str, list[str]]) -> None:
        prefix = query.get("prefix", [""])[0]
        delimiter = query.get("delimiter", [""])[0]
        after = query.get("start-after", [""])[0]
        keys, folders = [], set()
        for key in sorted(self.objects):
            if not key.startswith(prefix) or key <= after:
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.split(delimiter)[0] + delimiter)
            else:
                keys.append(key)
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.objects[key])}</Size>"
            "<LastModified>2026-06-01T12:00:00.000Z</LastModified><ETag>x</ETag></Contents>"
            for key in keys
        )
        common = "".join(
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in folders
        )
        self._answer(200, f"<ListBucketResult>{contents}{common}</ListBucketResult>".encode())


@contextmanager
def object_store() -> Iterator[str]:
    """Yield the address of a store in a process of its own: Delta holds Python while it waits."""
    process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate()


if __name__ == "__main__":
    handler = type("Handler", (_Handler,), {"objects": {}, "lock": threading.Lock()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)  # noqa: T201 - read by the test
    server.serve_forever()
