"""What a JVM itself puts into a stack and into names, which says nothing about the bug.  Pure.

Names are those of :mod:`.hs_err`: ``package.Class.method(types)``, or ``~`` and the name of a stub.
"""

import re
from typing import Final

LIBRARY: Final = "libjvm.so"
_PLUMBING: Final = (
    "~",
    "java.lang.invoke.",
    "java.lang.reflect.Constructor.",
    "java.lang.reflect.Method.",
    "jdk.internal.misc.ScopedMemoryAccess.",
    "jdk.internal.misc.Unsafe.",
    "jdk.internal.reflect.",
    "sun.misc.Unsafe.",
    "sun.reflect.",
)
"""Stubs of the VM; calls by reflection and method handles, which the VM rewrites as it goes; and
the doors to raw memory, which compiled code goes through without a frame."""
_GENERATED: Final = (
    # A hidden class; before JDK 15 one without a place in its loader: Cart$$Lambda$14/0x0800c400.
    (re.compile(r"[/+](0x[0-9a-f]+|\d+)(?=\.)"), ""),
    (re.compile(r"\$\$Lambda\$\d+(?=\.)"), "$$Lambda"),
    (re.compile(r"(\$\$\w+?)\$\$[0-9a-f]+(?=[.$])"), r"\1"),  # cglib: Cart$$SpringCGLIB$$0
    (re.compile(r"\$(ByteBuddy|HibernateProxy|MockitoMock)\$\w+(?=\.)"), r"$\1"),
    (re.compile(r"(\bjdk\.proxy|\$Proxy)\d+(?=\.)"), r"\1"),
    (re.compile(r"([$-]\d+)+$"), ""),  # of a method: lambda$total$0, access$100, $anonfun$f$1
)
"""What compilers, the VM and frameworks number or hash, and what it becomes."""


def plain(method: str) -> str:
    """A method without its arguments and without what differs from build to build and run to run.

    >>> plain("Cart.lambda$total$3(String)"), plain("Cart$$Lambda$14/0x00000008000c4.run()")
    ('Cart.lambda$total', 'Cart$$Lambda.run')
    >>> plain("a.Cart$Item.<init>(int)"), plain("com.sun.proxy.$Proxy12.close()")
    ('a.Cart$Item.<init>', 'com.sun.proxy.$Proxy.close')
    """
    name = method.partition("(")[0]
    for form, replacement in _GENERATED:
        name = form.sub(replacement, name)
    return name


def is_plumbing(method: str) -> bool:
    """Whether a frame told by the VM is the VM's or the class library's way to call or to access.

    >>> is_plumbing("~StubRoutines::call_stub"), is_plumbing("Cart.total()")
    (True, False)
    """
    return method.startswith(_PLUMBING)
