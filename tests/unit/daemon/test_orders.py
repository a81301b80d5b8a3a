"""The orders that a parent sends to its engine."""

from __future__ import annotations

import json

import pytest

from cloud_archive.daemon.orders import Orders


def test_the_token_of_the_orders_does_not_show() -> None:
    orders = Orders.parse(json.dumps({"token": "planted-token", "root": "/srv/output"}))

    assert orders.token == "planted-token"
    assert "planted" not in repr(orders)


@pytest.mark.parametrize("line", ["[]", "1", "null", '"token"'])
def test_orders_that_are_no_object_are_called_that(line: str) -> None:
    with pytest.raises(ValueError, match="orders must be a JSON object"):
        Orders.parse(line)
