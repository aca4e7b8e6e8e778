"""The catalogue of fault classes: what each is made of, and what is true when it happens.

The numbers are those of a list of 44 ways in which an exchange, the way to it and its clients
fail; F33 to F39 happen to the client's own process and disk, so they are not here. A class is
one or more faults of the script, or an act of the venue, and may come in several variants.

Assumed, for no document says: the HTTP status of -1001, -1006 and -1007 (500, 500, 504), and the
codes beside the first two 503 texts. On USDS-M futures the fourth 503 reads "Request throttled
by system-level protection"; the bodies of the other three are the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bagbot.simulator.faults import HIDDEN_BODY, TIMEOUT_BODY, FaultError

Template = Mapping[str, object]

_UNEXPECTED = {
    "code": -1006,
    "msg": "An unexpected response was received from the message bus. Execution status unknown.",
}
_DISCONNECTED = {
    "code": -1001,
    "msg": "Internal error; unable to process your request. Please try again.",
}
_UNKNOWN_ERROR = {
    "code": -1000,
    "msg": "Unknown error, please check your request or try again later.",
}
_UNAVAILABLE = {"code": -1000, "msg": "Service Unavailable."}
_OVERLOADED = {
    "code": -1008,
    "msg": "Server is currently overloaded with other requests. Please try again in a few minutes.",
}
_TOO_MUCH_WEIGHT = {
    "code": -1003,
    "msg": "Too much request weight used; current limit is 6000 request weight per 1 MINUTE. "
    "Please use WebSocket Streams for live updates to avoid polling the API.",
}
_BANNED = {
    "code": -1003,
    "msg": "Way too much request weight used; IP banned. "
    "Please use WebSocket Streams for live updates to avoid bans.",
}
_TOO_MANY_ORDERS = {
    "code": -1015,
    "msg": "Too many new orders; current limit is 50 orders per 10 SECOND.",
}
_KEY_REVOKED = {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}
_BAD_SIGNATURE = {"code": -1022, "msg": "Signature for this request is not valid."}
_FIREWALL_PAGE = (
    "<!DOCTYPE html>\n<html><head><title>403 Forbidden</title></head>\n"
    "<body><h1>403 Forbidden</h1><p>Request blocked.</p></body></html>\n"
)
_GATEWAY_PAGE = "<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultClass:
    """One class: its faults, or the act it is, by variant; the first variant is the default."""

    title: str
    truth: str
    variants: Mapping[str, Template] = field(default_factory=dict)

    @property
    def default(self) -> str:
        """Return the variant that is meant when none is named."""
        return next(iter(self.variants))


def _on_orders(kind: str, **options: object) -> Template:
    return {"kind": kind, "on": "orders"} | options


def _said(kind: str, status: int, body: Mapping[str, object], **options: object) -> Template:
    return _on_orders(kind, status=status, body=body, **options)


def _gateway(kind: str, status: int, title: str) -> Template:
    return _said(kind, status, _UNKNOWN_ERROR, text=_GATEWAY_PAGE.format(f"{status} {title}"))


def _everywhere(status: int, body: Mapping[str, object], **options: object) -> Template:
    return {"kind": "refuse", "status": status, "body": body} | options


def _on_user_stream(kind: str, **options: object) -> Template:
    return {"kind": kind, "path": "user"} | options


FAULT_CLASSES: Mapping[str, FaultClass] = {
    "F1": FaultClass(
        title="an order is lost on its way to the exchange",
        truth="received, never executed; the connection is cut",
        variants={"cut": _on_orders("lose_request")},
    ),
    "F2": FaultClass(
        title="the answer to an accepted order is lost",
        truth="executed; the connection is cut",
        variants={"cut": _on_orders("lose_answer")},
    ),
    "F3": FaultClass(
        title="-1007, and executed",
        truth="executed",
        variants={"executed": _said("answer", 504, TIMEOUT_BODY)},
    ),
    "F4": FaultClass(
        title="-1007, and never executed",
        truth="never executed",
        variants={"lost": _said("refuse", 504, TIMEOUT_BODY)},
    ),
    "F5": FaultClass(
        title="-1007, and executed late",
        truth="executed, but only after `queries` queries for it said -2013 and `delay_s` passed",
        variants={"late": _said("late", 504, TIMEOUT_BODY, queries=3)},
    ),
    "F6": FaultClass(
        title="-1006: execution status unknown",
        truth="executed; never executed in the variant lost",
        variants={
            "executed": _said("answer", 500, _UNEXPECTED),
            "lost": _said("refuse", 500, _UNEXPECTED),
        },
    ),
    "F7": FaultClass(
        title="500, 502 or 504",
        truth="executed; never executed in the variants that end in -lost",
        variants={
            "500": _said("answer", 500, _UNKNOWN_ERROR),
            "502": _gateway("answer", 502, "Bad Gateway"),
            "504": _gateway("answer", 504, "Gateway Time-out"),
            "500-lost": _said("refuse", 500, _UNKNOWN_ERROR),
            "502-lost": _gateway("refuse", 502, "Bad Gateway"),
            "504-lost": _gateway("refuse", 504, "Gateway Time-out"),
        },
    ),
    "F8": FaultClass(
        title="503 with one of four bodies",
        truth="unknown: executed; unknown-lost and the other three: never executed",
        variants={
            "unknown": _said("answer", 503, _UNKNOWN_ERROR),
            "unknown-lost": _said("refuse", 503, _UNKNOWN_ERROR),
            "unavailable": _said("refuse", 503, _UNAVAILABLE),
            "internal": _said("refuse", 503, _DISCONNECTED),
            "overloaded": _said("refuse", 503, _OVERLOADED),
        },
    ),
    "F9": FaultClass(
        title="408: the backend did not answer in time",
        truth="executed; never executed in the variant lost",
        variants={
            "executed": _said("answer", 408, TIMEOUT_BODY),
            "lost": _said("refuse", 408, TIMEOUT_BODY),
        },
    ),
    "F10": FaultClass(
        title="-1001: internal error",
        truth="never executed; executed in the variant executed",
        variants={
            "lost": _said("refuse", 500, _DISCONNECTED),
            "executed": _said("answer", 500, _DISCONNECTED),
        },
    ),
    "F11": FaultClass(
        title="200, but the answer cannot be read or has unknown fields",
        truth="executed",
        variants={
            "truncated": _on_orders("truncate"),
            "invalid": _on_orders("garble"),
            "unknown-fields": _on_orders("embellish"),
        },
    ),
    "F12": FaultClass(
        title="the network delivers an order twice",
        truth="both deliveries are received, the second with `repeat_of`; each executes if it may",
        variants={"twice": _on_orders("repeat")},
    ),
    "F13": FaultClass(
        title="-2013 for an order that exists: the replica lags",
        truth="the order is there all the time",
        variants={"lag": {"kind": "hide", "body": HIDDEN_BODY, "count": None, "for_s": 5}},
    ),
    "F14": FaultClass(
        title="an old status: the executed quantity goes backwards",
        truth="the order is as far as it was told before",
        variants={"stale": {"kind": "stale", "on": "order_queries"}},
    ),
    "F15": FaultClass(
        title="the open orders lack one",
        truth="that order is open",
        variants={"omit": {"kind": "omit", "on": "open_orders"}},
    ),
    "F16": FaultClass(
        title="a page of orders or trades lacks one, or overlaps the page before",
        truth="every order and trade is there once",
        variants={
            "gap": {"kind": "omit", "on": "history"},
            "overlap": {"kind": "overlap", "on": "history"},
        },
    ),
    "F17": FaultClass(
        title="queries time out, one after the other",
        truth="nothing is changed by it; until cleared",
        variants={
            "silent": {"kind": "delay_answer", "on": "reads", "count": None, "delay_s": 30},
            "refused": {
                "kind": "refuse",
                "on": "reads",
                "count": None,
                "status": 504,
                "body": TIMEOUT_BODY,
            },
        },
    ),
    "F18": FaultClass(
        title="an order goes by another client id",
        truth="renamed: the order was cancelled; oldest: the id was used twice, the newer is meant",
        variants={
            "renamed": {"kind": "rename", "on": "reads", "count": None},
            "oldest": {"kind": "oldest", "on": "order_queries", "count": None},
        },
    ),
    "F19": FaultClass(
        title="429 with Retry-After",
        truth="nothing is carried out",
        variants={"weight": _everywhere(429, _TOO_MUCH_WEIGHT, retry_after_s=10)},
    ),
    "F20": FaultClass(
        title="418: banned for a while",
        truth="nothing is carried out for `for_s`; Retry-After counts down",
        variants={"ban": _everywhere(418, _BANNED, count=None, for_s=120)},
    ),
    "F21": FaultClass(
        title="-1015: too many orders",
        truth="never executed",
        variants={"orders": _said("refuse", 429, _TOO_MANY_ORDERS, retry_after_s=10)},
    ),
    "F22": FaultClass(
        title="403 from the firewall, in HTML",
        truth="nothing is carried out",
        variants={
            "html": _everywhere(403, {"code": -1000, "msg": "Forbidden"}, text=_FIREWALL_PAGE)
        },
    ),
    "F23": FaultClass(
        title="the key is good no more",
        truth="nothing is carried out; until cleared",
        variants={
            "revoked": _everywhere(401, _KEY_REVOKED, on="signed", count=None),
            "signature": _everywhere(400, _BAD_SIGNATURE, on="signed", count=None),
        },
    ),
    "F24": FaultClass(
        title="a stream is cut without a word",
        truth="the event happened",
        variants={"cut": _on_user_stream("cut")},
    ),
    "F25": FaultClass(
        title="a stream is half open: pings, no events",
        truth="the events happened; the connection stays silent until it ends",
        variants={"silent": _on_user_stream("half_open")},
    ),
    "F26": FaultClass(
        title="connections end at their age, with code 1001",
        truth="an act: all WebSockets, at once",
        variants={"close": {"act": "streams", "end": "close"}},
    ),
    "F27": FaultClass(
        title="serverShutdown, then the connections end",
        truth="an act: all WebSockets, `delay_s` after the announcement",
        variants={"shutdown": {"act": "streams", "end": "shutdown", "delay_s": 1.0}},
    ),
    "F28": FaultClass(
        title="an event is not sent",
        truth="it happened",
        variants={"drop": _on_user_stream("drop")},
    ),
    "F29": FaultClass(
        title="an event is sent twice",
        truth="it happened once",
        variants={"twice": _on_user_stream("duplicate")},
    ),
    "F30": FaultClass(
        title="a fill is told before its order, a cancellation before its fill",
        truth="they happened in the other order",
        variants={"swap": _on_user_stream("reorder")},
    ),
    "F31": FaultClass(
        title="events come more than a minute late",
        truth="they happened `delay_s` before",
        variants={"late": _on_user_stream("delay", delay_s=61.0)},
    ),
    "F32": FaultClass(
        title="eventStreamTerminated: the subscription is over, the connection is not",
        truth="an act: all subscriptions to user events",
        variants={"terminate": {"act": "streams", "end": "terminate"}},
    ),
    "F40": FaultClass(
        title="the exchange's clock steps, or runs at another pace",
        truth="an act: `step_s` and `slew_ppm`; the market goes on from where it was",
        variants={
            "step": {"act": "clock", "step_s": 300},
            "back": {"act": "clock", "step_s": -300},
            "leap": {"act": "clock", "step_s": 1},
            "slew": {"act": "clock", "slew_ppm": 500},
        },
    ),
    "F41": FaultClass(
        title="the client is more than a second ahead: -1021",
        truth="an act: the exchange's clock goes back by 2 s; nothing is carried out",
        variants={"behind": {"act": "clock", "step_s": -2}},
    ),
    "F42": FaultClass(
        title="orders end otherwise than their owner meant",
        truth="a cancellation finds the order traded, in part or whole; orders come and go by hand",
        variants={
            "partial": {"kind": "fill_first", "on": "cancels", "quantity": "0.00000001"},
            "filled": {"kind": "fill_first", "on": "cancels"},
            "fill": {"act": "fill"},
            "foreign-order": {"act": "place"},
            "foreign-cancel": {"act": "cancel"},
        },
    ),
    "F43": FaultClass(
        title="the rules of a symbol change, or it stops trading",
        truth="an act: orders that rest stay; without trading nothing matches; delisted: all end",
        variants={
            "halt": {"act": "symbol", "status": "HALT"},
            "break": {"act": "symbol", "status": "BREAK"},
            "cancel-only": {"act": "symbol", "status": "CANCEL_ONLY"},
            "resume": {"act": "symbol", "status": "TRADING"},
            "filters": {"act": "symbol"},
            "delist": {"act": "delist"},
        },
    ),
    "F44": FaultClass(
        title="the test venue is reset",
        truth="an act: no order, trade or list is known, balances as at the start; "
        "the admin side still tells all, with `is_forgotten`",
        variants={"reset": {"act": "reset"}},
    ),
}


def described(description: Mapping[str, object]) -> Mapping[str, object]:
    """Return what a description with a `class` stands for: its own words win.

    The result has `kind` if it is a fault, `act` if it is an act. Raises FaultError.
    """
    name = description.get("class")
    if name is None:
        return description
    known = FAULT_CLASSES.get(name) if isinstance(name, str) else None
    if known is None:
        raise FaultError(f"class must be one of: {', '.join(FAULT_CLASSES)}")
    variant = description.get("variant", known.default)
    template = known.variants.get(variant) if isinstance(variant, str) else None
    if template is None:
        raise FaultError(f"variant of {name} must be one of: {', '.join(known.variants)}")
    said = {key: value for key, value in description.items() if key != "variant"}
    for fixed in ("kind", "act"):
        if fixed in said:
            raise FaultError(f"a class knows its {fixed}")
    return dict(template) | said


def catalogue() -> list[dict[str, object]]:
    """Return every class as JSON tells it."""
    return [
        {
            "class": name,
            "title": each.title,
            "truth": each.truth,
            "variants": {variant: dict(template) for variant, template in each.variants.items()},
        }
        for name, each in FAULT_CLASSES.items()
    ]
