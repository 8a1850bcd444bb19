"""Joins two network namespaces by a link with a delay, as netem would, which not every kernel has.

Usage: distant_line.py NAMESPACE DEVICE NAMESPACE DEVICE DELAY_MS

Makes a tap device in each namespace, prints {"event": "ready"}, and carries each frame from one to the other after
DELAY_MS, until it is killed.
"""

import collections
import ctypes
import fcntl
import json
import os
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TAP_WITHOUT_HEADER = 0x0002 | 0x1000
CLONE_NEWNET = 0x40000000
FRAME_BYTES = 1 << 16
LIBC = ctypes.CDLL(None, use_errno=True)


def open_tap(namespace, device):
    with open(f"/run/netns/{namespace}") as file:
        if LIBC.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH", device.encode(), IFF_TAP_WITHOUT_HEADER))
    return tap


def take_all(tap, waiting, due_at):
    try:
        while True:
            waiting.append((due_at, os.read(tap, FRAME_BYTES)))
    except BlockingIOError:
        pass


def give_due(tap, waiting, now):
    while waiting and waiting[0][0] <= now:
        try:
            os.write(tap, waiting.popleft()[1])
        except OSError:  # the device is down
            pass


def main():
    first_namespace, first_device, second_namespace, second_device, delay_ms = sys.argv[1:]
    first = open_tap(first_namespace, first_device)
    second = open_tap(second_namespace, second_device)
    print(json.dumps({"event": "ready"}), flush=True)
    delay_s = float(delay_ms) / 1000
    waiting = {first: collections.deque(), second: collections.deque()}  # by the device that gets them
    other = {first: second, second: first}
    poll = select.poll()
    poll.register(first, select.POLLIN)
    poll.register(second, select.POLLIN)
    while True:
        next_at = min((frames[0][0] for frames in waiting.values() if frames), default=None)
        wait_ms = None if next_at is None else max(0, (next_at - time.monotonic()) * 1000)
        for tap, _ in poll.poll(wait_ms):
            take_all(tap, waiting[other[tap]], time.monotonic() + delay_s)
        now = time.monotonic()
        for tap, frames in waiting.items():
            give_due(tap, frames, now)


main()
