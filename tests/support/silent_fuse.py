"""A FUSE filesystem whose server falls silent: ``silent_fuse.py MOUNTPOINT``.

It has one file, ``file`` of eight pages, which can be opened and mapped.  Whoever
reads it waits until the server ends, which is when standard input does.  The
protocol is that of include/uapi/linux/fuse.h.
"""

import ctypes
import errno
import os
import select
import stat
import struct
import sys

ROOT, FILE, SIZE = 1, 2, 8 * 4096
LOOKUP, GETATTR, OPEN, READ, INIT = 1, 3, 14, 15, 26
IN, OUT = struct.Struct("<IIQQIIII"), struct.Struct("<IiQ")
ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
HOUR = 3600


def attributes(node: int) -> bytes:
    mode = stat.S_IFDIR | 0o755 if node == ROOT else stat.S_IFREG | 0o644
    return ATTR.pack(node, SIZE, 8, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def answer(opcode: int, node: int, name: bytes) -> bytes | int | None:
    """What to answer: bytes, an error number, or nothing at all."""
    if opcode == INIT:
        return struct.pack("<IIIIHHIIHHI28x", 7, 31, 1 << 16, 0, 1, 1, 1 << 16, 1, 0, 0, 0)
    if opcode == LOOKUP:
        if name != b"file\0":
            return errno.ENOENT
        return struct.pack("<QQQQII", FILE, 0, HOUR, HOUR, 0, 0) + attributes(FILE)
    if opcode == GETATTR:
        return struct.pack("<QII", HOUR, 0, 0) + attributes(node)
    if opcode == OPEN:
        return struct.pack("<QIi", 1, 0, 0)
    return None if opcode == READ else errno.ENOSYS


def main() -> None:
    place = os.fsencode(sys.argv[1])
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"silent", place, b"fuse", 0, options) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    try:
        print("ready", flush=True)
        while True:
            readable, _, _ = select.select([fd, sys.stdin], [], [])
            if sys.stdin in readable:
                return
            request = os.read(fd, 1 << 17)
            _size, opcode, unique, node, *_rest = IN.unpack_from(request)
            reply = answer(opcode, node, request[IN.size :])
            if isinstance(reply, int):
                os.write(fd, OUT.pack(OUT.size, -reply, unique))
            elif reply is not None:
                os.write(fd, OUT.pack(OUT.size + len(reply), 0, unique) + reply)
    finally:
        os.close(fd)  # whoever waits gets an error now
        libc.umount2(place, 2)  # MNT_DETACH


if __name__ == "__main__":
    main()
