"""A BitTorrent peer that claims to have every NAR, takes requests, and sends nothing.

Usage: hanging_peer.py TORRENT_DIR

Prints {"event": "ready", "port": N}, then listens on loopback until it is killed.
"""

import hashlib
import json
import os
import re
import socket
import sys
import threading

HANDSHAKE_BYTES = 68
UNCHOKE = b"\0\0\0\1\1"


def pieces_by_infohash(folder):
    counts = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as file:
            text = file.read()
        info = text[text.index(b"4:info") + len(b"4:info") : -1]  # the last key of the torrent
        counts[hashlib.sha1(info).digest()] = int(re.search(rb"6:pieces(\d+):", info)[1]) // 20
    return counts


def hang(connection, counts):
    with connection:
        try:
            head = b""
            while len(head) < HANDSHAKE_BYTES:
                chunk = connection.recv(HANDSHAKE_BYTES - len(head))
                if not chunk:
                    return
                head += chunk
            infohash = head[28:48]
            if infohash not in counts:
                return
            pieces = counts[infohash]
            bits = ((1 << pieces) - 1 << -pieces % 8).to_bytes((pieces + 7) // 8, "big")
            bitfield = (len(bits) + 1).to_bytes(4, "big") + b"\5" + bits
            connection.sendall(head[:20] + bytes(8) + infohash + b"-HG0000-" + bytes(12) + bitfield + UNCHOKE)
            while connection.recv(1 << 16):
                pass
        except ConnectionError:
            pass


def main():
    counts = pieces_by_infohash(sys.argv[1])
    server = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(json.dumps({"event": "ready", "port": server.getsockname()[1]}), flush=True)
    while True:
        connection, _ = server.accept()
        threading.Thread(target=hang, args=(connection, counts), daemon=True).start()


main()
