"""Runs a command and prints what it took as one JSON object.

Usage: measure.py LIMIT_SECONDS COMMAND [ARGUMENT...]

wallS: seconds from the start of the process to its end; userS, systemS: CPU seconds of it and of the children that it
waited for; peakRssBytes: the most memory that it held at once, not below the 10 MB or so of this interpreter, which it
starts as a copy of; peakTreeRssBytes: the most memory of it and all processes below it, looked at four times a second
(pages that they share are counted for each); status: its exit status, negative for a signal; isTimeout: it was killed after LIMIT_SECONDS.
What the command prints goes to stderr.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time

LOOK_EVERY_S = 0.25
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def tree_rss_bytes(root):
    children, rss = {}, {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()  # from the third field on: proc(5)
        except OSError:
            continue  # it has ended meanwhile
        children.setdefault(int(fields[1]), []).append(int(pid))
        rss[int(pid)] = int(fields[21]) * PAGE_BYTES
    total, left = 0, [root]
    while left:
        pid = left.pop()
        total += rss.get(pid, 0)
        left += children.get(pid, [])
    return total


def main():
    limit_s, command = float(sys.argv[1]), sys.argv[2:]
    is_timeout = False
    start = time.perf_counter()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)

    def stop(number, _frame):
        nonlocal is_timeout
        is_timeout = number == signal.SIGALRM
        child.kill()

    for number in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    peak_tree, ended = 0, threading.Event()

    def look():
        nonlocal peak_tree
        while not ended.wait(LOOK_EVERY_S):
            peak_tree = max(peak_tree, tree_rss_bytes(child.pid))

    threading.Thread(target=look, daemon=True).start()
    _, status, usage = os.wait4(child.pid, 0)
    wall_s = time.perf_counter() - start
    ended.set()
    peak_rss = usage.ru_maxrss * 1024
    report = {
        "wallS": wall_s,
        "userS": usage.ru_utime,
        "systemS": usage.ru_stime,
        "peakRssBytes": peak_rss,
        "peakTreeRssBytes": max(peak_tree, peak_rss),
        "status": os.waitstatus_to_exitcode(status),
        "isTimeout": is_timeout,
    }
    print(json.dumps(report))


main()
