"""A shop that adds up a cart in a thread of its own, with prices in memory of C.

The bug: an empty cart has no memory, and its address is read all the same.
"""

import ctypes
import threading


class Till:
    """Adds up carts."""

    def price(self, address: int, index: int) -> int:
        """The price at an index of an array of int64."""
        return ctypes.c_int64.from_address(address + 8 * index).value

    def total(self, address: int, count: int) -> int:
        """The sum of the prices."""
        return sum(self.price(address, index) for index in range(count))


def add_up() -> None:
    """The carts of today."""
    till, prices = Till(), (ctypes.c_int64 * 2)(300, 700)
    for address in (ctypes.addressof(prices), 0):
        print(till.total(address, 2), flush=True)


thread = threading.Thread(target=add_up, name="till")
thread.start()
thread.join()
