"""Alembic's way in: migrations run on the connection that `Database.migrate` hands over."""

from __future__ import annotations

from alembic import context

from blemish.station.store.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    render_as_batch=True,
)
context.run_migrations()
