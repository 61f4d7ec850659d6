"""The Kubernetes API as the reaper uses it: list, patch, delete. With the service account of the pod it runs in.

`Failed` for everything the cluster refuses; `Changed` when somebody else was first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.commands.refusals import Failed

if TYPE_CHECKING:
    import httpx

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONNECT_S, TIMEOUT_S = 5.0, 30.0


class Changed(Exception):
    """It is not what it was when it was read (409)."""


class Cluster:
    """One cluster's API. A context manager; not thread-safe."""

    def __init__(self, url: str = "", account: Path = ACCOUNT) -> None:
        """`url` empty: of the cluster this runs in. `Failed` when it runs in none."""
        import ssl

        import httpx

        self._httpx = httpx
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not url and not host:
            raise Failed("this runs in no Kubernetes cluster; --kubernetes URL says where one is (kubectl proxy)")
        self.url = (url or f"https://{f'[{host}]' if ':' in host else host}:{port}").rstrip("/")
        headers = {"Accept": "application/json", "User-Agent": "holdfast-reap"}
        verify: ssl.SSLContext | bool = True
        try:
            # To another URL than the cluster's own the account's token is not sent.
            if not url:
                headers["Authorization"] = f"Bearer {(account / 'token').read_text().strip()}"
                verify = ssl.create_default_context(cafile=str(account / "ca.crt"))
        except (OSError, ssl.SSLError) as error:
            raise Failed(f"the pod's service account cannot be read: {error}") from None
        self._http = httpx.Client(
            headers=headers, verify=verify, timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_S), trust_env=False
        )

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def deployments(self, namespace: str, selector: str) -> list[Mapping[str, Any]]:
        """All that `selector` (of labels) finds."""
        where = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        answer = self._checked("GET", where, self._send("GET", where, params={"labelSelector": selector}))
        return list(answer["items"])

    def patch(self, where: str, patch: Mapping[str, Any]) -> Mapping[str, Any]:
        """A merge patch (RFC 7396). Returns the object as it is now."""
        headers = {"Content-Type": "application/merge-patch+json"}
        return self._checked("PATCH", where, self._send("PATCH", where, json=patch, headers=headers))

    def delete(self, where: str) -> bool:
        """False: there is no such object, or no such kind."""
        answer = self._send("DELETE", where, json={"propagationPolicy": "Background"})
        if answer.status_code == 404:
            return False
        self._checked("DELETE", where, answer)
        return True

    def _send(self, method: str, where: str, **more: Any) -> httpx.Response:
        try:
            return self._http.request(method, self.url + where, **more)
        except (self._httpx.HTTPError, self._httpx.InvalidURL, ValueError) as error:
            raise Failed(f"the Kubernetes API at {self.url}: {error or type(error).__name__}") from None

    def _checked(self, method: str, where: str, answer: httpx.Response) -> Mapping[str, Any]:
        try:
            content = answer.json()
        except ValueError:
            content = None
        if answer.status_code == 409:
            raise Changed
        if answer.is_success and isinstance(content, dict):
            return content
        said = content.get("message", "") if isinstance(content, dict) else ""
        status = answer.status_code
        advice = "; the reaper's Role must allow it" if status == 403 else ""
        raise Failed(f"{method} {where}: the Kubernetes API answered {status} {said}{advice}".rstrip(), status)
