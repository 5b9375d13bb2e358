"""The viewer's server: on this machine only, for who knows its token, and for nothing but the cases that it was given.

/TOKEN/                       the page
/TOKEN/view.js, view.css, niivue.js
/TOKEN/cases                  names of the cases
/TOKEN/case/3                 its layers, labels, window, and by which steps it can be had
/TOKEN/case/3/prediction?4    every fourth voxel of a layer, as NIfTI
"""

from __future__ import annotations

import errno
import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

import numpy as np

from nnunet_rs.core.errors import NnunetError, named
from nnunet_rs.report.viewer.layers import (
    Layer,
    LayerKind,
    ViewCase,
    Voxels,
    colour_table,
    distance,
    nifti,
    steps,
    window,
)
from nnunet_rs.report.viewer.niivue import niivue_module

ADDRESS = "127.0.0.1"
_HOSTS = (ADDRESS, "localhost")  # by which a browser may call it: another name is another page's trick
_KEPT = 1 << 31  # bytes of voxels that are kept to be sent in other steps
_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval' blob:; worker-src blob:; connect-src 'self' data: blob:; "
    "img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; font-src data:; base-uri 'none'; form-action 'none'"
)
_FILES = {
    "": ("view.html", "text/html"),
    "view.js": ("view.js", "text/javascript"),
    "view.css": ("view.css", "text/css"),
}


@dataclass(slots=True, eq=False)
class Viewing:
    """What is shown, and what of it was read last."""

    title: str
    cases: Sequence[ViewCase]
    remarks: tuple[str, ...] = ()
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    _layers: dict[int, tuple[Layer, ...]] = field(default_factory=dict)
    _voxels: OrderedDict[tuple[int, str], Voxels] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def listed(self) -> dict[str, Any]:
        """Return the title and the names of the cases."""
        return {"title": self.title, "cases": [case.name for case in self.cases], "remarks": list(self.remarks)}

    def case(self, number: int) -> dict[str, Any]:
        """Describe a case: its layers, labels, and the window of its first image, the one layer that is read.

        Layers before the first that can be read are left out, and told.
        """
        case, layers = self.cases[number], list(self.layers(number))
        remarks, first = [], None
        while layers and first is None:
            try:
                first = self.voxels(number, layers[0].key)
            except (NnunetError, OSError, ValueError, RuntimeError) as error:
                remarks.append(f"{layers.pop(0).name} is left out: {named(error)}")
        image = first is not None and layers[0].kind == "image"
        return {
            "name": case.name,
            "layers": [
                {"key": layer.key, "name": layer.name, "kind": layer.kind, "shown": layer.shown} for layer in layers
            ],
            "labels": colour_table(case.labels) if case.labels else [],
            "window": window(first) if first is not None and image else (0.0, 1.0),
            "shape": [] if first is None else list(first.data.shape),
            "steps": [] if first is None else list(steps(first.data.shape)),
            "remarks": remarks,
        }

    def read_ahead(self) -> None:
        """Read the first case in a thread of its own, while the browser starts; what is wrong is told when it asks."""

        def read() -> None:
            with suppress(Exception):
                self.case(0)

        threading.Thread(target=read, daemon=True).start()

    def found_labels(self, number: int) -> list[dict[str, Any]]:
        """List the values of label files that nobody has named."""
        values: set[int] = set()
        for layer in self.layers(number):
            if layer.kind in ("labels", "outline"):
                with suppress(NnunetError, OSError):
                    data = self.voxels(number, layer.key).data
                    values.update(int(value) for value in np.unique(data[data != 0])[:255])
        return colour_table(None, tuple(sorted(values)))

    def sized(self, number: int, key: str) -> Voxels:
        """Read a layer on the first one's grid; a NnunetError where it is on another, else errors as of the file."""
        found = self.voxels(number, key)
        known = (self._voxels.get((number, layer.key)) for layer in self.layers(number))
        first = next((voxels for voxels in known if voxels is not None), found)
        if found.data.shape != first.data.shape:
            raise NnunetError(f"it has {found.data.shape} voxels (z, y, x), the first layer {first.data.shape}")
        apart = distance(found, first)
        if apart > 0:
            raise NnunetError(f"it lies elsewhere: a corner is {apart:.3g} mm from that of the first layer")
        return found

    def layers(self, number: int) -> tuple[Layer, ...]:
        """List the layers of a case."""
        if number not in self._layers:
            self._layers[number] = self.cases[number].layers()
        return self._layers[number]

    def kind(self, number: int, key: str) -> LayerKind:
        """Tell what a layer is; a KeyError where there is none of this key."""
        return {layer.key: layer.kind for layer in self.layers(number)}[key]

    def voxels(self, number: int, key: str) -> Voxels:
        """Read a layer, or remember it; errors as of the file."""
        with self._lock:  # one reading at a time: two large cases at once might not fit
            if (number, key) in self._voxels:
                self._voxels.move_to_end((number, key))
                return self._voxels[number, key]
            layer = {layer.key: layer for layer in self.layers(number)}[key]
            self._voxels[number, key] = found = layer.read()
            while len(self._voxels) > 1 and sum(each.data.nbytes for each in self._voxels.values()) > _KEPT:
                self._voxels.popitem(last=False)
            return found


def serve(viewing: Viewing, port: int = 0) -> ThreadingHTTPServer:
    """Listen on 127.0.0.1; `serve_forever` answers until `shutdown`.

    Parameters
    ----------
    viewing
        What is shown.
    port
        0: any that is free.

    Raises
    ------
    NnunetError
        The port is in use or not allowed; NiiVue is not installed.
    """
    niivue_module()
    try:
        server = ThreadingHTTPServer((ADDRESS, port), partial(_Answer, viewing))
    except (OSError, OverflowError) as error:
        why = (
            "is in use"
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            else f"cannot be used: {error}"
        )
        raise NnunetError(f"port {port} {why}; name another (--port), or leave the option out") from error
    server.daemon_threads = True
    return server


def address(viewing: Viewing, server: ThreadingHTTPServer) -> str:
    """Return what a browser opens."""
    return f"http://{ADDRESS}:{server.server_address[1]}/{viewing.token}/"


class _Answer(BaseHTTPRequestHandler):
    """Answers one request."""

    server_version, sys_version = "nnunet_rs", ""
    protocol_version = "HTTP/1.1"

    def __init__(self, viewing: Viewing, *arguments: Any) -> None:
        self.viewing = viewing
        super().__init__(*arguments)

    def log_message(self, *_: object) -> None:
        """Say nothing of requests."""

    def do_GET(self) -> None:
        """Send what was asked for, or say that there is no such thing."""
        try:
            self._send(*self._found())
        except (KeyError, ValueError):
            self._send(b"there is nothing here", "text/plain", 404)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        except Exception as error:  # told in the page; the other cases go on
            self._send(json.dumps({"error": named(error)}).encode(), "application/json", 500)

    def _found(self) -> tuple[bytes, str]:
        host = (self.headers.get("Host") or "").rsplit(":", 1)[0]
        path, _, query = self.path.partition("?")
        _, token, *parts = path.split("/")
        if host not in _HOSTS or not secrets.compare_digest(token.encode(), self.viewing.token.encode()):
            raise KeyError(path)
        if len(parts) == 1 and parts[0] in _FILES:
            name, kind = _FILES[parts[0]]
            return (files("nnunet_rs.report") / "templates" / name).read_bytes(), kind
        if parts == ["niivue.js"]:
            return niivue_module(), "text/javascript"
        if parts == ["cases"]:
            return json.dumps(self.viewing.listed()).encode(), "application/json"
        kind, number, *key = parts
        if kind != "case" or not 0 <= int(number) < len(self.viewing.cases) or len(key) > 1:
            raise KeyError(path)
        if not key:
            return json.dumps(self.viewing.case(int(number))).encode(), "application/json"
        if key == ["labels"]:
            return json.dumps(self.viewing.found_labels(int(number))).encode(), "application/json"
        step = int(query or 1)
        if not 1 <= step <= 64:
            raise KeyError(query)
        outline = self.viewing.kind(int(number), key[0]) == "outline"
        voxels = self.viewing.sized(int(number), key[0])
        return nifti(voxels, step, outline=outline), "application/octet-stream"

    def _send(self, content: bytes, kind: str, code: int = 200) -> None:
        self.send_response(code)
        kind = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(content))),
            ("Content-Security-Policy", _POLICY),
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
