"""Where releases may be: a backend that may call the control API must not make the edge call anything it likes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

SHA = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names of releases: a git SHA or a tag. Nothing that could change the meaning of a URL it is filled into."""

_PORTS = {"http": 80, "https": 443}


def url_allowed(patterns: Sequence[str], sha: str, url: str) -> bool:
    """May release `sha` be at `url`? `patterns` are the route's `release_urls`.

    A template matches when it is the same URL once ``{sha}`` is filled in; a prefix, when scheme, host and port are
    the same and its path is a leading run of whole segments. URLs with credentials, a query, a fragment or dot
    segments never match.
    """
    wanted = _plain(url)
    if wanted is None:
        return False
    for pattern in patterns:
        allowed = _plain(pattern.replace("{sha}", sha))
        if allowed is None or _origin(allowed) != _origin(wanted):
            continue
        prefix, path = allowed.path.rstrip("/"), wanted.path.rstrip("/")
        if path == prefix or ("{sha}" not in pattern and path.startswith(prefix + "/")):
            return True
    return False


def _plain(url: str) -> SplitResult | None:
    """`url` in parts, or None when it is not a plain absolute HTTP URL."""
    if not url.isascii() or not url.isprintable() or any(c in url for c in " \\%"):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    plain = parts.scheme in _PORTS and parts.hostname and port != 0 and "@" not in parts.netloc
    dots = any(segment in (".", "..") for segment in parts.path.split("/"))
    return parts if plain and not dots and not ("?" in url or "#" in url) else None


def _origin(parts: SplitResult) -> tuple[str, str | None, int]:
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]
