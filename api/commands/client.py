"""The HTTP client of the command line: finds the daemon, sends, turns every failure into one error."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from scheduler.config import Config, InvalidConfig, load_config
from scheduler.layout import Layout

TIMEOUT_S = 15.0

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3


class CommandError(Exception):
    """A command failed; `exit_code` is what the process returns, `hint` what a person can do."""

    exit_code = EXIT_REFUSED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def as_data(self) -> dict[str, Any]:
        return {"title": str(self), "detail": self.hint}


class Refused(CommandError):
    """The daemon answered with a problem (RFC 9457)."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(str(problem.get("title") or f"HTTP {status}"), str(problem.get("detail") or ""))
        self.status = status
        self.problem = dict(problem)

    def as_data(self) -> dict[str, Any]:
        return {"status": self.status, **self.problem}


class Unreachable(CommandError):
    """Nobody answers at the daemon's address."""

    exit_code = EXIT_UNREACHABLE


class UsageMistake(CommandError):
    """The command line asks for something that cannot be."""

    exit_code = EXIT_USAGE


@dataclass(frozen=True, slots=True)
class Target:
    """How to find the daemon, as the command line says; None = by the environment, then by the config."""

    url: str | None = None
    token_file: Path | None = None
    config: Path | None = None

    def resolve(self, environ: Mapping[str, str] = os.environ) -> tuple[str, str | None]:
        """(url, token). A missing token is not an error here: the daemon's own answer says it better.

        Raises:
            UsageMistake: the config file has mistakes, or a token file that was named cannot be read.
        """
        url = self.url or environ.get("WATTMILL_URL")
        token = _read_token(self.token_file) if self.token_file else environ.get("WATTMILL_TOKEN")
        if url and token:
            return url.rstrip("/"), token.strip()
        config = self.load()
        layout = Layout(config.storage.data_dir)
        if token is None and os.access(layout.token_file, os.R_OK):
            token = _read_token(layout.token_file)
        return (url or _address(config, layout)).rstrip("/"), token

    def load(self) -> Config:
        """The configuration that the command line names. Raises UsageMistake."""
        try:
            return load_config(self.config)
        except InvalidConfig as error:
            raise UsageMistake(str(error), "correct the file, or give --url and --token-file") from error


def _address(config: Config, layout: Layout) -> str:
    """Where the daemon said it listens (the port may be chosen at start), else where it should."""
    try:
        return layout.address_file.read_text().strip()
    except OSError:
        host = f"[{config.server.host}]" if ":" in config.server.host else config.server.host
        return f"http://{host}:{config.server.port}"


def _read_token(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise UsageMistake(f"cannot read the token file {path}: {error.strerror}") from error


class ApiClient:
    """Requests to one daemon, as one person. Every answer is parsed JSON; every failure a CommandError."""

    def __init__(self, url: str, token: str | None, *, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url
        self._http = httpx.Client(
            base_url=url, headers=headers, timeout=TIMEOUT_S, transport=transport, trust_env=False
        )

    def get(self, path: str, **params: Any) -> Any:
        return self.send("GET", path, params=params)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.send("POST", path, body=body, headers=headers)

    def put(self, path: str, body: Any) -> Any:
        return self.send("PUT", path, body=body)

    def delete(self, path: str) -> Any:
        return self.send("DELETE", path)

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The parsed answer; None when it is empty, text when it is not JSON.

        Raises:
            Refused: the daemon said no.
            Unreachable: nobody answered.
        """
        given = {k: v for k, v in (params or {}).items() if v is not None}
        with self._translated():
            answer = self._http.request(method, path, json=body, params=given, headers=headers)
        return _parsed(answer)

    def chunks(self, path: str, **params: Any) -> Iterator[str]:
        """A text that may grow, piece by piece, for as long as the daemon sends it."""
        given = {k: v for k, v in params.items() if v is not None}
        endless = httpx.Timeout(TIMEOUT_S, read=None)
        with self._translated(), self._http.stream("GET", path, params=given, timeout=endless) as answer:
            if answer.is_error:
                answer.read()
                _parsed(answer)
            yield from answer.iter_text()

    def close(self) -> None:
        self._http.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise Unreachable(
                f"the daemon at {self.url} did not answer in {TIMEOUT_S:.0f} s",
                "look at its log, and at `wattmill doctor`",
            ) from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Unreachable(
                f"cannot reach the daemon at {self.url}: {error}",
                "start it with `wattmill serve`, or say where it is: --url or WATTMILL_URL",
            ) from error


def _parsed(answer: httpx.Response) -> Any:
    is_json = "json" in answer.headers.get("content-type", "")
    try:
        content = answer.json() if is_json and answer.content else None
    except json.JSONDecodeError:
        content = None
    if answer.is_error:
        problem = content if isinstance(content, dict) else {"detail": answer.text[:500].strip()}
        problem.setdefault("title", f"{answer.status_code} {answer.reason_phrase}")
        raise Refused(answer.status_code, problem)
    if content is None and answer.content:
        return answer.text
    return content
