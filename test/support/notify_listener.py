"""Receives the messages of sd_notify(3) at a datagram socket, as systemd does. Prints each as a line of JSON."""

import json
import socket
import sys

path = sys.argv[1]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind("\0" + path[1:] if path.startswith("@") else path)
print("[]", flush=True)
while True:
    print(json.dumps(listener.recv(65536).decode().splitlines()), flush=True)
