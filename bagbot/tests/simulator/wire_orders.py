"""Orders as the wire has them, for the tests: far from the market unless they are to trade."""

LIMIT = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "0.01",
    "price": "50000",
}
RESTING = LIMIT | {"side": "SELL", "price": "200000"}
MARKET = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
STOP = {"symbol": "BTCUSDT", "side": "SELL", "type": "STOP_LOSS", "quantity": "0.01"}
OCO = {
    "symbol": "BTCUSDT",
    "side": "SELL",
    "quantity": "0.01",
    "aboveType": "LIMIT_MAKER",
    "abovePrice": "200000",
    "belowType": "STOP_LOSS",
    "belowStopPrice": "20000",
}
_WORKING = {
    "symbol": "BTCUSDT",
    "workingType": "LIMIT",
    "workingSide": "BUY",
    "workingPrice": "20000",
    "workingQuantity": "0.01",
    "workingTimeInForce": "GTC",
    "pendingSide": "SELL",
    "pendingQuantity": "0.01",
}
OTO = _WORKING | {"pendingType": "MARKET"}
OTOCO = _WORKING | {
    "pendingAboveType": "LIMIT_MAKER",
    "pendingAbovePrice": "200000",
    "pendingBelowType": "STOP_LOSS",
    "pendingBelowStopPrice": "15000",
}
