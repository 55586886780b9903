"""A way to the API server that can fall silent: connections stay open and nothing comes."""

import json
import socket
import threading
from types import TracebackType
from urllib.parse import urlsplit

from tests.support.kube import Kube

Address = tuple[str, int]


def api_address(kube: Kube) -> Address:
    """Host and port of the API server."""
    config = json.loads(kube.kubectl("config", "view", "-o", "json"))
    url = urlsplit(config["clusters"][0]["cluster"]["server"])
    assert url.hostname is not None
    return url.hostname, url.port or 443


class Forwarder:
    """Forwards TCP connections until ``freeze``."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self._flowing = threading.Event()
        self._flowing.set()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server((target[0], 0))

    @property
    def url(self) -> str:
        host, port = self._listener.getsockname()
        return f"https://{host}:{port}"

    def freeze(self) -> None:
        """Let no byte through any more, in either direction."""
        self._flowing.clear()

    def __enter__(self) -> "Forwarder":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._flowing.set()
        for one in (self._listener, *self._open):
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            far = socket.create_connection(self._target)
            self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self._flowing.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return
