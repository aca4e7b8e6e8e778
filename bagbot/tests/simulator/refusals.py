"""What the exchange refuses, and with which words: every third-party client must meet them so."""

from dataclasses import dataclass

from bagbot.tests.simulator.wire_orders import LIMIT, MARKET, STOP

NUMBER = "^([0-9]{1,20})(\\.[0-9]{1,20})?$"
CLIENT_ID = "^[\\.A-Z\\:/a-z0-9_-]{1,36}$"
DAY_MS = 24 * 60 * 60 * 1_000


@dataclass(frozen=True)
class Refused:
    """A request as REST knows it, and the answer to it."""

    method: str
    path: str
    parameters: dict
    code: int
    text: str

    def text_with(self, *, read, sent):
        """Return the text, which may tell how many parameters were read and sent."""
        return self.text.replace("{read}", str(read)).replace("{sent}", str(sent))

    @property
    def is_signed(self):
        return self.path not in ("klines", "depth", "ticker/price")


def order(parameters, code, text, path="order"):
    return Refused("POST", path, parameters, code, text)


def missing(name):
    return f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."


def without(name):
    return {key: value for key, value in LIMIT.items() if key != name}


REFUSALS = {
    "lot size": order(LIMIT | {"quantity": "0.000001"}, -1013, "Filter failure: LOT_SIZE"),
    "tick size": order(LIMIT | {"price": "50000.001"}, -1013, "Filter failure: PRICE_FILTER"),
    "far price": order(LIMIT | {"price": "1000"}, -1013, "Filter failure: PERCENT_PRICE_BY_SIDE"),
    "small cost": order(LIMIT | {"quantity": "0.00001"}, -1013, "Filter failure: NOTIONAL"),
    "large market order": order(
        MARKET | {"quantity": "101"}, -1013, "Filter failure: MARKET_LOT_SIZE"
    ),
    "many slices": order(
        LIMIT | {"quantity": "1.01", "icebergQty": "0.01"}, -1013, "Filter failure: ICEBERG_PARTS"
    ),
    "small trailing delta": order(
        STOP | {"trailingDelta": "5"}, -1013, "Filter failure: TRAILING_DELTA"
    ),
    "zero quantity": order(LIMIT | {"quantity": "0"}, -1013, "Invalid quantity."),
    "no money": order(
        LIMIT | {"quantity": "50"},
        -2010,
        "Account has insufficient balance for requested action.",
    ),
    "maker that takes": order(
        without("timeInForce") | {"type": "LIMIT_MAKER", "price": "200000"},
        -2010,
        "Order would immediately match and take.",
    ),
    "stop already met": order(
        STOP | {"stopPrice": "200000"}, -2010, "Order would trigger immediately."
    ),
    "unknown symbol": order(LIMIT | {"symbol": "NOSUCH"}, -1121, "Invalid symbol."),
    "no price": order(without("price"), -1102, missing("price")),
    "price in words": order(
        LIMIT | {"price": "cheap"},
        -1100,
        f"Illegal characters found in parameter 'price'; legal range is '{NUMBER}'.",
    ),
    "strange client id": order(
        LIMIT | {"newClientOrderId": "mine!"},
        -1100,
        f"Illegal characters found in parameter 'newClientOrderId'; legal range is '{CLIENT_ID}'.",
    ),
    "unknown parameter": order(
        LIMIT | {"newClientOrderId": "mine", "colour": "blue"},
        -1104,
        "Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'.",
    ),
    "timed market order": order(
        MARKET | {"timeInForce": "GTC"},
        -1106,
        "Parameter 'timeInForce' sent when not required.",
    ),
    "nine decimals": order(
        LIMIT | {"quantity": "0.010000001"},
        -1111,
        "Parameter 'quantity' has too much precision.",
    ),
    "strange time in force": order(LIMIT | {"timeInForce": "GTX"}, -1115, "Invalid timeInForce."),
    "strange type": order(LIMIT | {"type": "LIMITED"}, -1116, "Invalid orderType."),
    "strange side": order(LIMIT | {"side": "HOLD"}, -1117, "Invalid side."),
    "long window": order(
        LIMIT | {"recvWindow": "60001"}, -1131, "recvWindow must be less than 60000"
    ),
    "test of a bad order": order(
        LIMIT | {"quantity": "0.000001"}, -1013, "Filter failure: LOT_SIZE", "order/test"
    ),
    "replacing nothing": order(
        LIMIT | {"cancelReplaceMode": "STOP_ON_FAILURE", "cancelOrderId": "999"},
        -2022,
        "Order cancel-replace failed.",
        "order/cancelReplace",
    ),
    "cancelling nothing": Refused(
        "DELETE", "order", {"symbol": "BTCUSDT", "orderId": "999"}, -2011, "Unknown order sent."
    ),
    "cancelling none": Refused(
        "DELETE", "openOrders", {"symbol": "BTCUSDT"}, -2011, "Unknown order sent."
    ),
    "asking for nothing": Refused(
        "GET", "order", {"symbol": "BTCUSDT", "orderId": "999"}, -2013, "Order does not exist."
    ),
    "asking without an id": Refused(
        "GET",
        "order",
        {"symbol": "BTCUSDT"},
        -1102,
        "Param 'orderId' or 'origClientOrderId' must be sent, but both were empty/null!",
    ),
    "two days": Refused(
        "GET",
        "allOrders",
        {"symbol": "BTCUSDT", "startTime": "1", "endTime": str(2 * DAY_MS)},
        -1127,
        "More than 24 hours between startTime and endTime.",
    ),
    "time and trade id": Refused(
        "GET",
        "myTrades",
        {"symbol": "BTCUSDT", "startTime": "1", "fromId": "1"},
        -1128,
        "Combination of optional parameters invalid.",
    ),
    "strange interval": Refused(
        "GET", "klines", {"symbol": "BTCUSDT", "interval": "7m"}, -1120, "Invalid interval."
    ),
    "no levels": Refused(
        "GET",
        "depth",
        {"symbol": "BTCUSDT", "limit": "0"},
        -1130,
        "Data sent for parameter 'limit' is not valid.",
    ),
    "empty symbol": Refused(
        "GET", "ticker/price", {"symbol": ""}, -1105, "Parameter 'symbol' was empty."
    ),
    # This one places an order, so it comes last.
    "replacing nothing anyhow": order(
        LIMIT | {"cancelReplaceMode": "ALLOW_FAILURE", "cancelOrderId": "999"},
        -2021,
        "Order cancel-replace partially failed.",
        "order/cancelReplace",
    ),
}
BAD_KEY = (-2014, "API-key format invalid.")
UNKNOWN_KEY = (-2015, "Invalid API-key, IP, or permissions for action.")
BAD_SIGNATURE = (-1022, "Signature for this request is not valid.")
LATE = (-1021, "Timestamp for this request is outside of the recvWindow.")
EARLY = (-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
TOO_HEAVY = (
    -1003,
    "Too much request weight used; current limit is 100 request weight per 1 MINUTE. "
    "Please use WebSocket Streams for live updates to avoid polling the API.",
)
TOO_MANY_ORDERS = (-1015, "Too many new orders; current limit is 1 orders per 10 SECOND.")
SUBSCRIBED_ALREADY = (-2035, "User Data Stream subscription already active.")
NOT_SUBSCRIBED = (-2036, "User Data Stream subscription not active.")
