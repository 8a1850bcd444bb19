"""Serves the files below a folder over HTTP/1.1, as fast as the kernel copies them.

Usage: file_server.py FOLDER [ADDRESS]

ADDRESS is where it listens; without it, on loopback.

Prints {"event": "ready", "port": N}, then serves until it is killed: GET alone, keep-alive, single ranges. The bytes
go from the page cache to the socket by sendfile(2), without passing through this process, so that it is not the
server that a benchmark of clients measures. One thread a connection.
"""

import json
import os
import re
import socket
import sys
import threading

RANGE = re.compile(rb"\r\nrange: *bytes=(\d+)-(\d*)", re.IGNORECASE)
SEND_BYTES = 1 << 20


def serve(connection, root):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    received = b""
    with connection:
        while True:
            while b"\r\n\r\n" not in received:
                chunk = connection.recv(1 << 16)
                if not chunk:
                    return
                received += chunk
            head, _, received = received.partition(b"\r\n\r\n")
            try:
                answer(connection, root, head)
            except ConnectionError:
                return


def answer(connection, root, head):
    path = os.path.normpath(root + head.split(b" ", 2)[1].decode())
    if not path.startswith(root + "/") or not os.path.isfile(path):
        connection.sendall(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        return
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        wanted = RANGE.search(head)
        start = int(wanted[1]) if wanted else 0
        end = min(size, int(wanted[2]) + 1) if wanted and wanted[2] else size
        status = b"206 Partial Content" if wanted else b"200 OK"
        part = b"content-range: bytes %d-%d/%d\r\n" % (start, end - 1, size) if wanted else b""
        lines = b"HTTP/1.1 %s\r\naccept-ranges: bytes\r\ncontent-length: %d\r\n%s\r\n" % (status, end - start, part)
        connection.sendall(lines, socket.MSG_MORE)
        while start < end:
            start += os.sendfile(connection.fileno(), file.fileno(), start, min(end - start, SEND_BYTES))


def main():
    root = os.path.realpath(sys.argv[1])
    address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
    server = socket.create_server((address, 0), backlog=1024)
    print(json.dumps({"event": "ready", "port": server.getsockname()[1]}), flush=True)
    while True:
        connection, _ = server.accept()
        threading.Thread(target=serve, args=(connection, root), daemon=True).start()


main()
