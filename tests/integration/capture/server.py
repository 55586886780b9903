"""A server that dies of a null pointer when a datagram comes: ``server.py MODE PLACE [FILE]``.

It listens on TCP and on ``PLACE/unix``, accepts one connection on each, and has two UDP sockets.
Modes: ``alone``; ``workers``, a forked worker serves new connections on TCP; ``hidden``, the second
thread of another process has both listening sockets, too; ``many``, children have 100,000
descriptors; ``stuck``, a thread never comes back from sending the third argument to its client.
"""

import ctypes
import mmap
import os
import resource
import socket
import sys
import threading
from pathlib import Path

CLONE_FILES = 0x400
mode, place = sys.argv[1], Path(sys.argv[2])


def say(line: str) -> None:
    """In one write: the agent writes to the same pipe."""
    os.write(1, f"{line}\n".encode())


def work(listening: list[socket.socket]) -> None:
    """Answer whoever comes."""
    while True:
        with listening[0].accept()[0] as client:
            client.sendall(b"served")


def hide(listening: list[socket.socket]) -> None:
    """Have the sockets, but not in the table of the first thread."""
    hidden = threading.Event()

    def keep() -> None:
        assert ctypes.CDLL(None).unshare(CLONE_FILES) == 0
        hidden.set()
        threading.Event().wait()

    threading.Thread(target=keep).start()
    hidden.wait()
    for each in listening:
        each.close()


def send_for_ever(client: socket.socket, path: str) -> None:
    """Have the kernel wait for a page, with the socket's lock, that its server never provides."""
    with Path(path).open("rb") as file:
        pages = mmap.mmap(file.fileno(), mmap.PAGESIZE, mmap.MAP_PRIVATE)
    address = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(pages)))
    arguments = (client.fileno(), address, ctypes.c_size_t(100), 0)
    threading.Thread(target=ctypes.CDLL(None).send, args=arguments, daemon=True).start()
    threads = list(Path("/proc/self/task").iterdir())
    while not any((task / "wchan").read_text() == "request_wait_answer" for task in threads):
        os.sched_yield()


tcp = socket.create_server(("127.0.0.1", 0))
unix = socket.socket(socket.AF_UNIX)
unix.bind(str(place / "unix"))
unix.listen()
listening = [tcp, unix]
if mode in ("workers", "hidden"):
    reading, ready = os.pipe()
    if os.fork() == 0:
        if mode == "hidden":
            hide(listening)
        os.write(ready, b"x")
        if mode == "workers":
            work(listening)
        threading.Event().wait()
    os.read(reading, 1)
if mode == "many":
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))
    each = min(allowed, 50_000) - 64
    for _ in range(100_000 // each + 1):
        reading, ready = os.pipe()
        if os.fork() == 0:
            tcp.close()
            unix.close()
            for _ in range(each):
                os.dup(reading)
            os.write(ready, b"x")
            threading.Event().wait()
        os.read(reading, 1)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 0))
connected = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
connected.connect(udp.getsockname())
say(f"{tcp.getsockname()[1]} {udp.getsockname()[1]}")
clients = [each.accept()[0] for each in listening] if mode != "workers" else []
say("accepted")
if mode == "stuck":
    send_for_ever(clients[0], sys.argv[3])
udp.recv(1)
ctypes.string_at(0)
