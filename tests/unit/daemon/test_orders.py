"""The orders that a parent sends to its engine."""

from __future__ import annotations

import json

from cloud_archive.daemon.orders import Orders


def test_the_token_of_the_orders_does_not_show() -> None:
    orders = Orders.parse(json.dumps({"token": "planted-token", "root": "/srv/output"}))

    assert orders.token == "planted-token"
    assert "planted" not in repr(orders)
