"""The kill switch and the health checks."""

import pytest

from bagbot.api import schemas
from bagbot.domain.order import OrderStatus
from bagbot.tests.api.desk_exchange import DeskExchange
from bagbot.tests.api.running_api import running_api
from bagbot.tests.api.test_order_routes import assert_problem


async def test_kill_switch_stops_new_risk_and_lets_positions_be_closed(tmp_path):
    async with running_api(tmp_path) as api:
        await api.hold("1")
        assert (await api.get("/kill-switch")).json() == {
            "is_on": False,
            "reason": None,
            "disputes": {},
        }
        turned = await api.ask("POST", "/kill-switch", json={"reason": "news at two"})
        assert turned.json() == {"is_on": True, "reason": "news at two", "disputes": {}}
        problem = assert_problem(await api.order("k2"), 422, "order-refused")
        assert problem["rule"] == "kill_switch"
        assert "news at two" in problem["detail"]
        assert (await api.order("k3", side="sell", amount="1")).status_code == 202
        assert (await api.ask("DELETE", "/kill-switch")).json()["is_on"] is False
        assert (await api.order("k4")).status_code == 202


async def test_kill_switch_outlives_a_restart(tmp_path):
    async with running_api(tmp_path) as api:
        answer = await api.ask("POST", "/kill-switch")
        schemas.KillSwitchView.model_validate(answer.json())
        assert "turned on by token" in answer.json()["reason"]
    async with running_api(tmp_path) as api:
        assert (await api.get("/kill-switch")).json()["is_on"] is True


@pytest.mark.parametrize("body", ['{"reason": 7}', '{"reason": ""}', '{"why": "x"}'])
async def test_kill_switch_body_that_is_wrong_changes_nothing(tmp_path, body):
    async with running_api(tmp_path) as api:
        answer = await api.ask("POST", "/kill-switch", content=body)
        assert_problem(answer, 422, "invalid-field")
        assert api.executor.killed is None


async def test_cancelling_works_while_the_kill_switch_is_on(tmp_path):
    exchange = DeskExchange()
    async with running_api(tmp_path, exchange) as api:
        placed = (await api.order("k1", type="limit", price="90")).json()
        await api.until_status(placed["id"], OrderStatus.OPEN)
        await api.ask("POST", "/kill-switch")
        answer = await api.ask("DELETE", f"/orders/{placed['id']}")
        assert answer.json()["status"] == "CANCELLED"


async def test_health_needs_no_token(tmp_path):
    async with running_api(tmp_path) as api:
        assert (await api.get("/health/live", token=None)).json() == {"status": "live"}
        assert (await api.get("/health/ready", token=None)).json() == {"status": "ready"}


async def test_engine_that_stops_is_not_ready_but_live(tmp_path):
    async with running_api(tmp_path) as api:
        api.executor._not_ready = "stopping"
        problem = assert_problem(await api.get("/health/ready", token=None), 503, "not-ready")
        assert "stopping" in problem["detail"]
        assert (await api.get("/health/live", token=None)).status_code == 200
        answer = await api.order("k1")
        assert_problem(answer, 503, "not-ready")
        assert answer.headers["retry-after"] == "5"
