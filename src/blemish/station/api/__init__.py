"""The HTTP interface: `app.py` puts it together, one file a subject; errors are problems."""

from blemish.station.api.app import create_app

__all__ = ["create_app"]
