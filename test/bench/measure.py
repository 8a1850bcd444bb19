"""Runs a command and prints what it took as one JSON object.

Usage: measure.py LIMIT_SECONDS COMMAND [ARGUMENT...]

wallS: seconds from the start of the process to its end; userS, systemS: CPU seconds of it and of the children that it
waited for; peakRssBytes: the most memory that it held at once, not below the 10 MB or so of this interpreter, which it
starts as a copy of; status: its exit status, negative for a signal; isTimeout: it was killed after LIMIT_SECONDS.
What the command prints goes to stderr.
"""

import json
import os
import signal
import subprocess
import sys
import time


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
    _, status, usage = os.wait4(child.pid, 0)
    wall_s = time.perf_counter() - start
    report = {
        "wallS": wall_s,
        "userS": usage.ru_utime,
        "systemS": usage.ru_stime,
        "peakRssBytes": usage.ru_maxrss * 1024,
        "status": os.waitstatus_to_exitcode(status),
        "isTimeout": is_timeout,
    }
    print(json.dumps(report))


main()
