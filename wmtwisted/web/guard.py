"""What every request passes first: the host it names, its method, the headers of its answer."""

# Twisted Web is not annotated.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import cast

from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

#: No inline script or style, nothing from elsewhere, no frames, no forms.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
    "Server": "wmtwisted",
}

#: The page only shows; nothing can be changed through it.
METHODS = (b"GET", b"HEAD")


def host_name(value: str) -> str:
    """The name in a Host header, lower case, without port and brackets; "" when it is none."""
    name = value.strip().lower()
    if name.startswith("["):
        name, bracket, port = name[1:].partition("]")
        return name if bracket and (port == "" or port[:1] == ":") else ""
    name, _, port = name.partition(":")
    return name.rstrip(".") if port.isdigit() or port == "" else ""


def is_loopback(name: str) -> bool:
    """Whether a host name can only mean this machine."""
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


class Guard(Resource):
    """Refuses what does not belong here, and hands the rest to `inner`.

    A page on another site can make a browser call this address under a name of its own (DNS
    rebinding), so the Host must be a loopback name or one of `hosts`.
    """

    isLeaf = True

    def __init__(self, inner: IResource, hosts: Iterable[str] = ()) -> None:
        super().__init__()
        self._inner = inner
        self._hosts = frozenset(host_name(host) for host in hosts) - {""}

    def render(self, request: Request) -> int | bytes:
        """The answer of `inner`, or a refusal in one plain line."""
        for name, value in HEADERS.items():
            request.setHeader(name.encode(), value.encode())
        hosts = request.requestHeaders.getRawHeaders("host") or []
        if len(hosts) != 1:
            return self._refuse(request, 400, "the request must have exactly one Host header")
        name = host_name(hosts[0])
        if not is_loopback(name) and name not in self._hosts:
            return self._refuse(
                request, 403, f"host {hosts[0][:100]!r} is not served; allow it in [web] hosts"
            )
        if request.method not in METHODS:
            request.setHeader(b"Allow", b", ".join(METHODS))
            return self._refuse(request, 405, "this page is read-only: GET or HEAD")
        site = request.requestHeaders.getRawHeaders("sec-fetch-site") or [""]
        if site[0] == "cross-site" and request.path.startswith(b"/api/"):
            return self._refuse(request, 403, "other sites may not read this")
        return cast(int | bytes, self._inner.render(request))

    def _refuse(self, request: Request, code: int, why: str) -> bytes:
        request.setResponseCode(code)
        request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
        return why.encode() + b"\n"
