"""Passes TCP connections on to a server, and keeps each byte waiting for half of a round trip in both directions.

Usage: delaying_proxy.py HOST PORT ROUND_TRIP_MS

Prints {"event": "ready", "port": N}, then listens on loopback until it is killed. One thread with epoll: it carries
several hundred MB/s, so that the delay limits a client and not this process. A connection is accepted at once: unlike on
a real line, opening one costs no round trip.
"""

import collections
import json
import select
import socket
import sys
import time

CHUNK_BYTES = 1 << 18
# More than a fast client can have on its way in half a round trip.
WAITING_BYTES = 1 << 25


class End:
    """One end of a connection, and the bytes that wait to be sent over it."""

    def __init__(self, sock):
        self.sock = sock
        self.peer = None
        self.waiting = collections.deque()  # (time at which it may be sent, bytes; empty: the end)
        self.waiting_bytes = 0
        self.reads = True
        self.is_full = False  # the kernel takes no more for now
        self.is_closed = False


class Proxy:
    def __init__(self, target, delay_s):
        self.target = target
        self.delay_s = delay_s
        self.server = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.server.setblocking(False)
        self.poll = select.epoll()
        self.poll.register(self.server, select.EPOLLIN)
        self.ends = {}
        self.due = collections.deque()  # (time, end): in the order of time, since all wait equally long

    def run(self):
        while True:
            now = time.monotonic()
            while self.due and self.due[0][0] <= now:
                self.flush(self.due.popleft()[1], now)
            wait_s = max(0, self.due[0][0] - now) if self.due else -1
            for fd, events in self.poll.poll(wait_s):
                end = self.ends.get(fd)
                if fd == self.server.fileno():
                    self.accept()
                elif end is not None:
                    if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and end.reads:
                        self.read(end)
                    if events & select.EPOLLOUT:
                        end.is_full = False
                        self.flush(end, time.monotonic())

    def accept(self):
        try:
            client = End(self.server.accept()[0])
        except BlockingIOError:
            return
        server = End(socket.socket())
        client.peer, server.peer = server, client
        for end in (client, server):
            end.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.sock.connect(self.target)
        for end in (client, server):
            end.sock.setblocking(False)
            self.ends[end.sock.fileno()] = end
            self.poll.register(end.sock, select.EPOLLIN)

    def read(self, end):
        try:
            chunk = end.sock.recv(CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        to = end.peer
        at = time.monotonic() + self.delay_s
        to.waiting.append((at, chunk))
        to.waiting_bytes += len(chunk)
        self.due.append((at, to))
        if chunk == b"" or to.waiting_bytes > WAITING_BYTES:
            end.reads = False
            self.watch(end)

    def flush(self, end, now):
        while end.waiting and not end.is_closed and not end.is_full and end.waiting[0][0] <= now:
            at, chunk = end.waiting[0]
            if chunk == b"":
                self.close(end)
                self.close(end.peer)
                return
            try:
                sent = end.sock.send(chunk)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.close(end)
                self.close(end.peer)
                return
            end.waiting_bytes -= sent
            if sent == len(chunk):
                end.waiting.popleft()
            else:
                end.waiting[0] = (at, memoryview(chunk)[sent:])
                end.is_full = True
        self.watch(end)
        if end.waiting_bytes <= WAITING_BYTES and not end.peer.reads and not end.peer.is_closed:
            if not (end.waiting and end.waiting[-1][1] == b""):
                end.peer.reads = True
                self.watch(end.peer)

    def watch(self, end):
        if not end.is_closed:
            self.poll.modify(end.sock, end.reads * select.EPOLLIN | end.is_full * select.EPOLLOUT)

    def close(self, end):
        if end.is_closed:
            return
        end.is_closed = True
        del self.ends[end.sock.fileno()]
        end.sock.close()


def main():
    host, port, round_trip_ms = sys.argv[1:]
    proxy = Proxy((host, int(port)), float(round_trip_ms) / 2000)
    print(json.dumps({"event": "ready", "port": proxy.server.getsockname()[1]}), flush=True)
    proxy.run()


main()
