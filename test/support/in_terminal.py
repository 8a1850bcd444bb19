"""Runs a program in a terminal: in_terminal.py COLUMNS ROWS [MARK KEYS] -- PROGRAM...

Prints all that the program writes to it. Presses KEYS once MARK appears. Exits with the program's status.
"""
import fcntl
import os
import pty
import struct
import sys
import termios

split = sys.argv.index('--')
columns, rows, *keys = sys.argv[1:split]
program = sys.argv[split + 1:]
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', int(rows), int(columns), 0, 0))
    os.execvp(program[0], program)
seen = b''
while True:
    try:
        part = os.read(terminal, 65536)
    except OSError:  # the program has closed it
        break
    if not part:
        break
    os.write(1, part)
    seen += part
    if keys and keys[0].encode() in seen:
        os.write(terminal, keys[1].encode())
        keys = []
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status))
