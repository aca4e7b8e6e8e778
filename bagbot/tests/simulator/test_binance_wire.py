import json

import pytest

from bagbot.simulator.binance_errors import BinanceError
from bagbot.simulator.binance_wire import (
    Parameters,
    check_signature,
    check_time,
    read_cancel,
    read_http,
    read_json,
    read_new_order,
    read_websocket,
    signature_of,
)
from bagbot.simulator.orders import OrderType, TimeInForce

# Binance publishes these: a dummy key and what a request signed with it must carry.
PUBLISHED_SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
PLAIN = (
    b"symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1"
    b"&recvWindow=5000&timestamp=1499827319559"
)
ENCODED = PLAIN.replace(b"LTCBTC", b"%EF%BC%91%EF%BC%92%EF%BC%93%EF%BC%94%EF%BC%95%EF%BC%96")
PLAIN_SIGNATURE = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"
ENCODED_SIGNATURE = "e1353ec6b14d888f1164ae9af8228a3dbd508bc82eb867db8ab6046442f33ef3"


@pytest.mark.parametrize(
    ("payload", "signature"), [(PLAIN, PLAIN_SIGNATURE), (ENCODED, ENCODED_SIGNATURE)]
)
def test_published_rest_signatures_are_accepted(payload, signature):
    signed = payload + b"&signature=" + signature.encode()
    check_signature(PUBLISHED_SECRET, read_http(signed, b""))
    check_signature(PUBLISHED_SECRET, read_http(b"", signed))
    check_signature(PUBLISHED_SECRET, read_http(b"signature=" + signature.encode(), payload))
    check_signature(
        PUBLISHED_SECRET, read_http(payload + b"&signature=" + signature.upper().encode(), b"")
    )


def test_published_websocket_signature_is_accepted():
    sent = read_json(
        json.dumps(
            {
                "symbol": "BTCUSDT",
                "side": "SELL",
                "type": "LIMIT",
                "timeInForce": "GTC",
                "quantity": "0.01000000",
                "price": "52000.00",
                "recvWindow": 100,
                "timestamp": 1645423376532,
                "apiKey": "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A",
                "signature": "aa1b5712c094bc4e57c05a1a5c1fd8d88dcd628338ea863fec7b88e59fe2db24",
            }
        )
    )
    check_signature(PUBLISHED_SECRET, read_websocket(sent))


def test_query_and_body_are_signed_together_without_anything_between():
    signature = signature_of("secret", b"a=1&b=2c=3")
    request = read_http(b"a=1&b=2", f"c=3&signature={signature}".encode())
    check_signature("secret", request)
    assert request.parameters == {"a": "1", "b": "2", "c": "3"}


def test_query_wins_over_body():
    assert read_http(b"a=query", b"a=body").parameters == {"a": "query"}


def test_websocket_values_are_signed_as_json_prints_them():
    request = read_websocket(
        read_json('{"b": false, "a": 0.001, "c": 1e3, "d": "x", "e": [1, "y"]}')
    )
    assert request.signed_bytes == b'a=0.001&b=false&c=1e3&d=x&e=[1,"y"]'


def test_wrong_signature_is_refused():
    with pytest.raises(BinanceError) as caught:
        check_signature("secret", read_http(b"a=1&signature=00", b""))
    assert (caught.value.code, caught.value.message) == (
        -1022,
        "Signature for this request is not valid.",
    )


NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    ("timestamp", "window", "code"),
    [
        (NOW_MS, None, None),
        (NOW_MS - 5_000, None, None),
        (NOW_MS - 5_001, None, -1021),
        (NOW_MS + 999, None, None),
        (NOW_MS + 1_000, None, -1021),
        (NOW_MS - 60_000, "60000", None),
        (NOW_MS, "60001", -1131),
        (NOW_MS - 1, "0.5", -1021),
        (NOW_MS, "0.0001", -1111),
        (NOW_MS, "abc", -1100),
        (NOW_MS * 1_000, None, None),
        ("", None, -1102),
        ("now", None, -1100),
        ("-1", None, -1100),
        ("9" * 21, None, -1100),
    ],
)
def test_timestamps_are_checked_to_the_millisecond(timestamp, window, code):
    parameters = {"timestamp": str(timestamp)}
    if window is not None:
        parameters["recvWindow"] = window
    if code is None:
        check_time(parameters, NOW_MS * 1_000_000)
        return
    with pytest.raises(BinanceError) as caught:
        check_time(parameters, NOW_MS * 1_000_000)
    assert caught.value.code == code


def new_order(**parameters):
    base = {"symbol": "BTCUSDT", "side": "BUY"}
    merged = {name: value for name, value in (base | parameters).items() if value is not None}
    reader = Parameters(merged, ["BTCUSDT"])
    command = read_new_order(reader, 1)
    reader.optional("newOrderRespType")
    reader.finish()
    return command


LIMIT = {"type": "LIMIT", "timeInForce": "GTC", "quantity": "1", "price": "100"}


def test_a_limit_order_is_read():
    command = new_order(
        **LIMIT, newClientOrderId="my.id:/1", strategyId="4", strategyType="1000000"
    )
    assert (command.type, command.time_in_force) == (OrderType.LIMIT, TimeInForce.GTC)
    assert (command.price, command.quantity) == (100 * 10**8, 10**8)
    assert (command.client_order_id, command.strategy_id) == ("my.id:/1", 4)


NUMBER_RANGE = "legal range is '^([0-9]{1,20})(\\.[0-9]{1,20})?$'."
MISSING = "Mandatory parameter '{}' was not sent, was empty/null, or malformed."


@pytest.mark.parametrize(
    ("parameters", "code", "message"),
    [
        ({"symbol": None, **LIMIT}, -1102, MISSING.format("symbol")),
        ({"symbol": "NOSUCH", **LIMIT}, -1121, "Invalid symbol."),
        (
            {"symbol": "btcusdt", **LIMIT},
            -1100,
            "Illegal characters found in parameter 'symbol'; "
            "legal range is '^[\\w\\-._&&[^a-z]]{1,50}$'.",
        ),
        ({"side": None, **LIMIT}, -1102, MISSING.format("side")),
        ({**LIMIT, "side": "HOLD"}, -1117, "Invalid side."),
        ({"type": "LIMITED"}, -1116, "Invalid orderType."),
        ({**LIMIT, "timeInForce": "GTX"}, -1115, "Invalid timeInForce."),
        ({**LIMIT, "timeInForce": None}, -1102, MISSING.format("timeInForce")),
        ({**LIMIT, "price": None}, -1102, MISSING.format("price")),
        ({**LIMIT, "quantity": ""}, -1102, MISSING.format("quantity")),
        (
            {**LIMIT, "quantity": "1e3"},
            -1100,
            f"Illegal characters found in parameter 'quantity'; {NUMBER_RANGE}",
        ),
        (
            {**LIMIT, "quantity": "-1"},
            -1100,
            f"Illegal characters found in parameter 'quantity'; {NUMBER_RANGE}",
        ),
        ({**LIMIT, "quantity": "0"}, -1013, "Invalid quantity."),
        ({**LIMIT, "price": "0.0"}, -1013, "Invalid price."),
        ({**LIMIT, "price": "1.123456789"}, -1111, "Parameter 'price' has too much precision."),
        (
            {**LIMIT, "quoteOrderQty": "5"},
            -1106,
            "Parameter 'quoteOrderQty' sent when not required.",
        ),
        ({**LIMIT, "stopPrice": "5"}, -1106, "Parameter 'stopPrice' sent when not required."),
        (
            {**LIMIT, "newClientOrderId": "a b"},
            -1100,
            "Illegal characters found in parameter 'newClientOrderId'; "
            "legal range is '^[\\.A-Z\\:/a-z0-9_-]{1,36}$'.",
        ),
        ({**LIMIT, "newClientOrderId": ""}, -1105, "Parameter 'newClientOrderId' was empty."),
        (
            {**LIMIT, "unheard": "1", "of": "2"},
            -1104,
            "Not all sent parameters were read; read '6' parameter(s) but was sent '8'.",
        ),
        ({**LIMIT, "strategyType": "9"}, -1134, "`strategyType` was less than 1000000."),
        (
            {**LIMIT, "selfTradePreventionMode": "TRANSFER"},
            -1013,
            "This symbol does not allow the specified self-trade prevention mode.",
        ),
        (
            {**LIMIT, "icebergQty": "0.1", "timeInForce": "IOC"},
            -1106,
            "Parameter 'icebergQty' sent when not required.",
        ),
        (
            {"type": "STOP_LOSS", "quantity": "1"},
            -1102,
            "Param 'stopPrice' or 'trailingDelta' must be sent, but both were empty/null!",
        ),
        (
            {"type": "TAKE_PROFIT", "quantity": "1", "stopPrice": "9", "price": "9"},
            -1106,
            "Parameter 'price' sent when not required.",
        ),
        (
            {"type": "STOP_LOSS", "quantity": "1", "stopPrice": "9", "timeInForce": "GTC"},
            -1106,
            "Parameter 'timeInForce' sent when not required.",
        ),
        (
            {"type": "STOP_LOSS_LIMIT", "quantity": "1", "stopPrice": "9", "price": "9"},
            -1102,
            MISSING.format("timeInForce"),
        ),
        ({**LIMIT, "type": "STOP_LOSS_LIMIT", "stopPrice": "0"}, -1013, "Invalid stop price."),
        (
            {**LIMIT, "type": "STOP_LOSS_LIMIT", "trailingDelta": "0"},
            -1130,
            "Data sent for parameter 'trailingDelta' is not valid.",
        ),
        (
            {**LIMIT, "trailingDelta": "5"},
            -1106,
            "Parameter 'trailingDelta' sent when not required.",
        ),
        (
            {"type": "LIMIT_MAKER", "quantity": "1", "price": "1", "timeInForce": "GTC"},
            -1106,
            "Parameter 'timeInForce' sent when not required.",
        ),
        (
            {"type": "MARKET", "quantity": "1", "timeInForce": "GTC"},
            -1106,
            "Parameter 'timeInForce' sent when not required.",
        ),
        (
            {"type": "MARKET", "quantity": "1", "price": "1"},
            -1106,
            "Parameter 'price' sent when not required.",
        ),
        (
            {"type": "MARKET", "quantity": "1", "quoteOrderQty": "1"},
            -1106,
            "Parameter 'quoteOrderQty' sent when not required.",
        ),
        (
            {"type": "MARKET"},
            -1102,
            "Param 'quantity' or 'quoteOrderQty' must be sent, but both were empty/null!",
        ),
    ],
)
def test_a_malformed_order_gets_binances_own_error(parameters, code, message):
    with pytest.raises(BinanceError) as caught:
        new_order(**parameters)
    assert (caught.value.code, caught.value.message) == (code, message)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({}, -1102),
        ({"orderId": "x"}, -1100),
        ({"orderId": str(2**63)}, -1108),
        ({"orderId": "1", "cancelRestrictions": "NEVER"}, -1145),
    ],
)
def test_a_malformed_cancellation_is_refused(parameters, code):
    with pytest.raises(BinanceError) as caught:
        read_cancel(Parameters({"symbol": "BTCUSDT"} | parameters, ["BTCUSDT"]), 1)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"a=1&a=2", -1101),
        (b"a=%FF", -1100),
    ],
)
def test_unreadable_queries_are_refused(sent, code):
    with pytest.raises(BinanceError) as caught:
        read_http(sent, b"")
    assert caught.value.code == code


@pytest.mark.parametrize("text", ["", "{", "NaN", "[" * 100_000, '{"a": Infinity}'])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(BinanceError) as caught:
        read_json(text)
    assert caught.value.code == -1135
