"""Who may come in, and what is told to those who may not."""

import httpx
import pytest

from bagbot.api.security import is_webhook_secret
from bagbot.tests.api.running_api import SECRET, running_api
from bagbot.tests.api.test_order_routes import assert_problem

NEEDS = [
    ("POST", "/orders", "trade"),
    ("DELETE", "/orders/ord_x", "trade"),
    ("GET", "/orders", "read"),
    ("GET", "/orders/ord_x", "read"),
    ("GET", "/fills", "read"),
    ("GET", "/positions", "read"),
    ("GET", "/balances", "read"),
    ("GET", "/kill-switch", "read"),
    ("POST", "/kill-switch", "kill"),
    ("DELETE", "/kill-switch", "kill"),
]
INCLUDED = {
    "read": {"read"},
    "trade": {"trade", "read"},
    "kill": {"kill"},
    "admin": {"read", "trade", "kill"},
}


@pytest.mark.parametrize(("method", "path", "scope"), NEEDS)
async def test_route_opens_for_its_scope_only(tmp_path, method, path, scope):
    async with running_api(tmp_path) as api:
        for own, included in INCLUDED.items():
            token = api.system.tokens.create([own])
            answer = await api.ask(method, path, token=token)
            if scope in included:
                assert answer.status_code not in (401, 403), (own, answer.text)
            else:
                problem = assert_problem(answer, 403, "scope-missing")
                assert problem["scope"] == scope
                assert f"scope {scope}" in problem["detail"]
                assert f'scope="{scope}"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize(("method", "path", "scope"), NEEDS)
async def test_route_is_shut_without_a_valid_token(tmp_path, method, path, scope):
    async with running_api(tmp_path) as api:
        answer = await api.ask(method, path, token=None)
        assert_problem(answer, 401, "token-missing")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        for wrong in ("bb", "bb_x_y", api.token + "x", api.token[:-1], api.token.upper()):
            answer = await api.ask(method, path, token=wrong)
            assert_problem(answer, 401, "token-invalid")
            assert 'error="invalid_token"' in answer.headers["www-authenticate"]


async def test_token_is_not_taken_from_another_scheme(tmp_path):
    async with running_api(tmp_path) as api:
        for value in (f"Basic {api.token}", api.token, "Bearer", "Bearer "):
            answer = await api.http.get("/orders", headers={"Authorization": value})
            assert_problem(answer, 401, "token-missing")
        answer = await api.http.get("/orders", headers={"Authorization": f"bearer {api.token}"})
        assert answer.status_code == 200


async def test_revoked_token_is_shut_out_at_once(tmp_path):
    async with running_api(tmp_path) as api:
        token = api.system.tokens.create(["read"])
        assert (await api.get("/orders", token=token)).status_code == 200
        api.system.tokens.revoke(token.split("_")[1])
        assert_problem(await api.get("/orders", token=token), 401, "token-invalid")


async def test_token_file_that_is_damaged_is_told_without_its_path(tmp_path):
    async with running_api(tmp_path) as api:
        with (tmp_path / "tokens.jsonl").open("a") as file:
            file.write("garbage\n")
        problem = assert_problem(await api.get("/orders"), 503, "configuration-error")
        assert str(tmp_path) not in problem["detail"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("127.0.0.1:80", 200),
        ("[::1]", 200),
        ("[::1]:8000", 200),
        ("bot.example.org", 200),
        ("Bot.Example.org.:443", 200),
        ("evil.example.org", 421),
        ("localhost.evil.example.org", 421),
        ("localhost:80@evil", 421),
        ("", 421),
    ],
)
async def test_only_our_own_names_are_answered(tmp_path, host, status):
    async with running_api(tmp_path) as api:
        answer = await api.http.get("/health/live", headers={"Host": host})
        assert answer.status_code == status
        if status == 421:
            assert_problem(answer, 421, "unknown-host")


async def test_request_without_or_with_two_hosts_is_refused(tmp_path):
    async with running_api(tmp_path) as api:
        for hosts in ([], [b"localhost", b"localhost"]):
            request = api.http.build_request("GET", "/health/live")
            request.headers = httpx.Headers([(b"host", host) for host in hosts])
            assert_problem(await api.http.send(request), 400, "host-missing")


async def test_other_origins_get_no_permission(tmp_path):
    async with running_api(tmp_path) as api:
        headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        answer = await api.http.options("/orders", headers=headers)
        assert_problem(answer, 405, "method-not-allowed")
        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_path_or_method_that_there_is_not_is_a_problem(tmp_path):
    async with running_api(tmp_path) as api:
        assert_problem(await api.get("/nothing"), 404, "not-found")
        assert_problem(await api.get("/orders/"), 404, "not-found")
        answer = await api.ask("PUT", "/orders")
        assert_problem(answer, 405, "method-not-allowed")
        assert answer.headers["allow"]


@pytest.mark.parametrize(
    ("path", "most"), [("/orders", 65536), ("/kill-switch", 65536), ("/webhooks/tradingview", 8192)]
)
async def test_body_is_read_up_to_its_limit_whatever_its_length_header_says(tmp_path, path, most):
    read = 0

    async def endless():
        nonlocal read
        for _ in range(100):
            read += 4096
            yield b" " * 4096

    async with running_api(tmp_path) as api:
        headers = {"Idempotency-Key": "k"}
        answer = await api.ask("POST", path, headers=headers, content=endless())
        assert str(most) in assert_problem(answer, 413, "body-too-large")["detail"]
        fits = await api.ask("POST", path, headers=headers, content=b" " * most)
        assert fits.status_code != 413


@pytest.mark.parametrize("sent", [None, "", "x", SECRET[:-1], SECRET + "x", 7, ["x"], "\ud800"])
def test_wrong_secret_is_none_of_ours(sent):
    assert not is_webhook_secret(sent, ["other", SECRET])


def test_each_configured_secret_opens_but_an_empty_one():
    assert is_webhook_secret(SECRET, [SECRET, "next"])
    assert is_webhook_secret("next", [SECRET, "next"])
    assert not is_webhook_secret("", [""])
    assert not is_webhook_secret("", [])


async def test_openapi_page_shows_every_route_its_scheme_and_its_shapes(tmp_path):
    async with running_api(tmp_path) as api:
        told = (await api.http.get("/openapi.json")).json()
        assert {"bearer"} == set(told["components"]["securitySchemes"])
        for method, path, _ in NEEDS:
            route = told["paths"][path.replace("ord_x", "{order_id}")][method.lower()]
            assert route["security"] == [{"bearer": []}], path
            assert route["summary"]
        placing = told["paths"]["/orders"]["post"]
        assert "amount" in str(placing["requestBody"])
        assert list(placing["responses"]["422"]["content"]) == ["application/problem+json"]
        assert "HTTPValidationError" not in str(told)
        assert (await api.http.get("/docs")).status_code == 200
        assert SECRET not in str(api.system)
