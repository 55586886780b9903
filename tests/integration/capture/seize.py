"""Traces every thread of a process until it is killed: ``seize.py PID``."""

import sys
from pathlib import Path

from stillframe.capture.ptrace import KernelPtrace

for thread in Path(f"/proc/{sys.argv[1]}/task").iterdir():
    KernelPtrace().seize(int(thread.name))
print("ready", flush=True)
sys.stdin.read()
