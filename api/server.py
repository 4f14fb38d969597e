"""The server process: uvicorn with the REST API and the console. `python -m api.server CONFIG_JSON`."""

from __future__ import annotations

import logging
import socket
import sys
from pathlib import Path
from types import FrameType

import uvicorn

from api.app import create_app
from api.services import Services
from api.sse import EventHub
from power.backend import open_backend
from scheduler.config import Config
from scheduler.daemon import open_clock
from scheduler.engines.local import LocalEngine
from scheduler.layout import Layout
from scheduler.plan_state import read_plan
from scheduler.published import PublishedState, read_published
from scheduler.quoting import Quoter
from scheduler.site import build_tree
from scheduler.store import open_store
from scheduler.wake import Waker
from telemetry.logs import configure_logging

log = logging.getLogger("wattmill.server")


def build_services(config: Config) -> Services:
    """Everything the API needs, wired from the effective config."""
    layout = Layout(config.storage.data_dir)
    backend = open_backend(config.gpus.backend, layout.gpu_map)
    infos = [gpu.info for gpu in backend.gpus()]
    backend.close()
    tree = build_tree(config.domains, infos)
    clock = open_clock(config.clock)
    store = open_store(config.storage.url(), upgrade=False)
    engine = LocalEngine(layout.runs_dir)

    def read_state() -> PublishedState | None:
        return read_published(layout.state_file)

    return Services(
        store=store,
        config=config,
        clock=clock,
        wake=Waker(layout.wake_socket).wake,
        read_state=read_state,
        read_plan=lambda: read_plan(layout.plan_file),
        read_log=engine.read_log,
        tree=tree,
        quote=Quoter(config=config, store=store, tree=tree, infos=infos, clock=clock, read_state=read_state),
        console_dir=Path(__file__).parent / "console",
    )


class _Server(uvicorn.Server):
    """Ends the event streams as soon as it is asked to stop: an open one would hold it for seconds."""

    streams: EventHub | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.streams is not None:
            self.streams.close()
        super().handle_exit(sig, frame)


def main(argv: list[str]) -> int:
    configure_logging()
    config = Config.model_validate_json(Path(argv[1]).read_text())
    layout = Layout(config.storage.data_dir)
    app = create_app(build_services(config))
    family = socket.AF_INET6 if ":" in config.server.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((config.server.host, config.server.port))
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    partial = layout.address_file.with_suffix(".partial")
    partial.write_text(f"{address}\n")
    partial.replace(layout.address_file)  # in one step: a client may read it at any moment
    log.info("listening on %s", address)
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=3,
            h11_max_incomplete_event_size=65536,
        )
    )
    server.streams = app.state.hub
    server.run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
