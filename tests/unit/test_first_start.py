"""The first token, and a state that cannot be written."""

from __future__ import annotations

import stat
from pathlib import Path

from api.first_start import prepare
from scheduler.config import Config, Storage
from scheduler.daemon import FilePublisher
from scheduler.layout import Layout
from scheduler.store import open_store
from tests.api_builders import state_of


def started(folder: Path) -> tuple[Config, Layout]:
    layout = Layout(folder)
    layout.create()
    config = Config(storage=Storage(data_dir=folder))
    return prepare(config, layout), layout


def test_a_new_database_gets_a_new_first_token(tmp_path: Path) -> None:
    config, layout = started(tmp_path)
    first = layout.token_file.read_text()
    started(tmp_path)
    assert layout.token_file.read_text() == first
    (tmp_path / "wattmill.db").unlink()
    started(tmp_path)
    store = open_store(config.storage.url())
    assert store.tokens.find(layout.token_file.read_text().strip()) is not None
    store.close()
    for path in (layout.token_file, layout.effective_config):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_state_that_cannot_be_written_does_not_end_the_loop(tmp_path: Path) -> None:
    FilePublisher(Layout(tmp_path / "no such folder")).publish(state_of())
