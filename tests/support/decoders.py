"""Decoders of their own for tests: what other tests have decoded makes no difference to them."""

from __future__ import annotations

from typing import Any

from conntrack_aio.codec.decoder import Decoder


def without_layouts(decoder: Decoder[Any]) -> Decoder[Any]:
    """Return the same decoder without its layouts."""
    return Decoder(
        decoder._cls,
        decoder._description,
        decoder._header_values,
        port_id_field=decoder._port_id_field,
        resource_field=decoder._resource_field,
    )
