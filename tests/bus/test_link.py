"""One way to Redis, whatever stands there: its address, its flavours, and what keeps it away."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bus.broker import Snapshots
from app.bus.link import Address, Link
from app.bus.scripts import RAISE
from app.errors import BrokerUnavailable
from tests.bus.road import LIMIT, OPEN, append, broker_on, heard, heard_entries, linked, no_more
from tests.e2e.gateway import free_port
from tests.e2e.waiting import until
from tests.redis.cluster import cluster
from tests.redis.proxy import proxy
from tests.redis.sentinel import sentinels
from tests.redis.servers import BINARIES, HOST, Server, server

SECRET = "s3cr3t"
SHORT = 0.5
"""Seconds that a link may take where it is to fail."""


class TestAddress:
    @pytest.mark.parametrize(
        ("url", "text", "hosts"),
        [
            ("redis://there", "redis://there:6379/0", [("there", 6379)]),
            ("redis://there:7000/3", "redis://there:7000/3", [("there", 7000)]),
            ("redis://there/3?ssl_cert_reqs=none", "redis://there:6379/3", [("there", 6379)]),
            ("redis://there?db=4", "redis://there:6379/4", [("there", 6379)]),
            ("redis://[::1]:7000/", "redis://[::1]:7000/0", [("::1", 7000)]),
            ("rediss://there", "rediss://there:6379/0", [("there", 6379)]),
            (
                "redis+sentinel://one,two:7000/main",
                "redis+sentinel://one:26379,two:7000/main",
                [("one", 26379), ("two", 7000)],
            ),
            (
                "rediss+sentinel://[::1]/main?db=2",
                "rediss+sentinel://[::1]:26379/main",
                [("::1", 26379)],
            ),
            (
                "redis+cluster://one,two:7000",
                "redis+cluster://one:6379,two:7000",
                [("one", 6379), ("two", 7000)],
            ),
            ("rediss+cluster://one", "rediss+cluster://one:6379", [("one", 6379)]),
        ],
    )
    def test_says_where_to_go(self, url: str, text: str, hosts: list[tuple[str, int]]) -> None:
        scheme, _, rest = url.partition("://")
        for given_ in (url, f"{scheme}://us3r:{SECRET}@{rest}", f"{scheme}://:{SECRET}@{rest}"):
            address = Address(given_)
            assert (text, hosts) == (str(address), address.hosts)
        assert text == str(Address(text))

    def test_knows_the_database_wherever_it_stands(self) -> None:
        for url in ("redis://h/3", "redis://h?db=3", "redis+sentinel://h/main?db=3"):
            assert Address(url).database == 3
        for url in ("redis://h", "redis://h/", "redis+cluster://h", "redis+sentinel://h/main"):
            assert Address(url).database == 0

    def test_hands_user_password_and_options_on_as_redis_py_takes_them(self) -> None:
        options = Address("redis://a%40b:c%2Fd%3A@h/1?health_check_interval=3").options
        wanted = {"username": "a@b", "password": "c/d:", "health_check_interval": 3, "db": 1}
        assert wanted.items() <= options.items()

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "there",
            "there:6379",
            "http://there",
            "memory://",
            "redis:/there",
            "redis+tls://there",
            "unix://there",
            "redis://",
            "redis://:6379",
            "redis://there:0",
            "redis://there:66000",
            "redis://there:port",
            "redis://one,two",
            "redis://there/name",
            "redis://there?foo=1",
            "redis://there?decode_responses=1",
            "redis://there?socket_timeout=soon",
            "redis+sentinel://there",
            "redis+sentinel://there/",
            "redis+sentinel://,/main",
            "redis+cluster://one,,two",
        ],
    )
    def test_refuses_what_leads_nowhere_and_says_what_it_expected(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        for given_ in (url, f"{scheme}://us3r:{SECRET}@{rest}"):
            with pytest.raises(ValueError, match="expected") as refused:
                Address(given_)
            assert SECRET not in str(refused.value)

    @given(st.sampled_from(["", "+sentinel", "+cluster"]), st.text(), st.text())
    def test_never_shows_a_password_or_a_user(self, flavour: str, left: str, right: str) -> None:
        secret = quote(f"{left}{SECRET}{right}", safe="")
        for who in (f"{secret}:{secret}", f":{secret}"):
            address = Address(f"redis{flavour}://{who}@there:7000/{'main' if flavour else 1}")
            assert SECRET not in str(address)
            assert f"{left}{SECRET}{right}" == address.options["password"]

    @given(
        st.sampled_from(["redis", "rediss", "redis+sentinel", "redis+cluster", "http", ""]),
        st.text("a1:/?#@%[],\\ é\n", max_size=6),
        st.text("a1:/?#@%[],\\ é\n", max_size=6),
    )
    def test_never_shows_a_password_that_is_not_quoted_as_it_should_be(
        self, scheme: str, left: str, right: str
    ) -> None:
        try:
            shown = str(Address(f"{scheme}://user:{left}{SECRET}{right}@there:7000/1"))
        except ValueError as refused:
            shown = str(refused)
        assert SECRET not in shown

    @pytest.mark.parametrize("scheme", ["redis+sentinel", "redis", "redis+cluster"])
    def test_never_takes_half_a_password_for_the_name_of_a_service(self, scheme: str) -> None:
        """One with a bare slash, before which stands what could be a port."""
        try:
            shown = str(Address(f"{scheme}://user:12/{SECRET}@there:7000/main"))
        except ValueError as refused:
            shown = str(refused)
        assert SECRET not in shown


async def first_message(link: Link) -> bytes | None:
    async with link.subscribed() as messages:
        await link.call("SPUBLISH", link.channel, "hello")
        return await messages.message(LIMIT)


ASKED: dict[str, Callable[[Link], Awaitable[object]]] = {
    "call": lambda link: link.call("GET", link.key("any")),
    "run": lambda link: link.run(RAISE, ("epoch",), 1),
    "subscribed": first_message,
}


async def works(link: Link) -> None:
    """Commands, scripts and a subscription, one after the other."""
    for asked in ASKED.values():
        await asked(link)
    assert await link.run("return KEYS[1]", ("a", "events")) == link.key("a").encode()
    assert await link.run("return {KEYS[2], ARGV[1]}", ("a", "events"), 5) == [
        link.channel.encode(),
        b"5",
    ]
    async with link.subscribed() as messages:
        assert await messages.message(0.01) is None
        await messages.ping()
        assert await messages.message(LIMIT) == b""
        for text in (b"one", b"two"):
            await link.call("SPUBLISH", link.channel, text)
        assert [await messages.message(LIMIT) for _ in "12"] == [b"one", b"two"]


@pytest.mark.parametrize("asked", ASKED)
class TestUnavailable:
    """Each way of asking says so in time, and never shows the password."""

    async def fails(self, link: Link, asked: str) -> None:
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable) as failed:
            await ASKED[asked](link)
        assert time.monotonic() - began < link.limit + 2.0
        assert SECRET not in f"{failed.value!r} {failed.value.__cause__!r}"

    async def test_with_a_wrong_password(self, tmp_path: Path, asked: str) -> None:
        async with server(tmp_path, requirepass="right") as one:
            async with linked(f"redis://:wrong{SECRET}@{HOST}:{one.port}", limit=SHORT) as link:
                await self.fails(link, asked)
            async with linked(f"redis://{HOST}:{one.port}", limit=SHORT) as link:
                await self.fails(link, asked)
            async with linked(f"redis://:right@{HOST}:{one.port}") as link:
                await works(link)

    async def test_without_a_server(self, asked: str) -> None:
        async with linked(f"redis://:{SECRET}@{HOST}:{free_port()}", limit=SHORT) as link:
            await self.fails(link, asked)

    async def test_with_a_server_that_hangs_until_it_goes_on(self, one: Server, asked: str) -> None:
        url = f"redis://{HOST}:{one.port}"
        async with linked(url, limit=SHORT) as used, linked(url, limit=SHORT) as fresh:
            await works(used)
            one.pause()
            await self.fails(used, asked)
            await self.fails(fresh, asked)
            one.resume()
            await works(used)
            await works(fresh)

    async def test_where_connections_are_taken_and_nothing_is_answered(
        self, one: Server, asked: str
    ) -> None:
        async with proxy(one.port) as between, linked(between.url, limit=SHORT) as link:
            await works(link)
            between.partition()
            between.cut()
            await self.fails(link, asked)
            between.heal()
            await works(link)

    @pytest.mark.parametrize("rights", ["-@all", "+@all -spublish -ssubscribe -get -eval"])
    async def test_without_the_right_to(self, one: Server, asked: str, rights: str) -> None:
        who = ("ACL", "SETUSER", "poor", "on", f">{SECRET}", "~{sluice}:*", "&*")
        await one.ask(*who, *rights.split())
        async with linked(f"redis://poor:{SECRET}@{HOST}:{one.port}", limit=SHORT) as link:
            await self.fails(link, asked)

    async def test_with_keys_and_channels_that_belong_to_others(
        self, one: Server, asked: str
    ) -> None:
        await one.ask("ACL", "SETUSER", "poor", "on", f">{SECRET}", "+@all", "~other:*", "&other:*")
        async with linked(f"redis://poor:{SECRET}@{HOST}:{one.port}", limit=SHORT) as link:
            await self.fails(link, asked)


async def test_the_rights_it_needs_are_those_to_its_own_keys_and_channels(one: Server) -> None:
    own = ("~{sluice}:*", "&{sluice}:*", "+@all", "-@admin", "-@dangerous", "+info")
    await one.ask("ACL", "SETUSER", "own", "on", f">{SECRET}", *own)
    async with linked(f"redis://own:{SECRET}@{HOST}:{one.port}") as link:
        await works(link)


class TestSubscribed:
    async def test_a_cut_is_told_and_not_healed_in_silence(self, one: Server) -> None:
        """What was published meanwhile is lost, so who listens has to know."""
        async with proxy(one.port) as between, linked(between.url) as link:
            async with link.subscribed() as messages:
                between.cut()
                with pytest.raises(BrokerUnavailable):
                    await messages.message(LIMIT)
            assert await first_message(link) == b"hello"

    async def test_a_cut_into_a_network_that_hangs_is_told_too(self, one: Server) -> None:
        async with (
            proxy(one.port) as between,
            linked(between.url, limit=SHORT) as link,
            link.subscribed() as messages,
        ):
            between.partition()
            between.cut()
            with pytest.raises(BrokerUnavailable):
                async with asyncio.timeout(LIMIT):
                    await messages.message(SHORT)

    async def test_the_server_s_end_is_told(self, one: Server, link: Link) -> None:
        async with link.subscribed() as messages:
            await one.kill()
            with pytest.raises(BrokerUnavailable):
                await messages.message(LIMIT)

    async def test_nothing_of_it_stays_behind(self, one: Server, link: Link) -> None:
        for _ in range(3):
            await first_message(link)

        async def gone() -> bool:
            return bool(await one.ask("PUBSUB", "SHARDCHANNELS") == [])

        await until(gone, "no subscription")

    async def test_a_long_answer_may_take_longer_where_that_is_said(self, one: Server) -> None:
        async with linked(one.url, limit=0.2) as link:
            wait = ("BLPOP", link.key("nothing"), 0.4)
            with pytest.raises(BrokerUnavailable):
                await link.call(*wait)
            assert await link.call(*wait, limit=LIMIT) is None


async def test_two_databases_of_one_server_do_not_hear_each_other(one: Server) -> None:
    url = one.url.removesuffix("/0")
    async with linked(f"{url}/0") as first, linked(f"{url}/5") as second:
        here, there = broker_on(first), broker_on(second)
        async with here.listen() as hearing, there.listen() as other:
            assert Snapshots(None, ()) == await heard(hearing)
            assert Snapshots(None, ()) == await heard(other)
            await append(here, OPEN)
            assert await heard_entries(hearing, 1) == [OPEN]
            await no_more(there, other)
            await append(there, OPEN)
            await no_more(here, hearing)
            assert await heard_entries(other, 1) == [OPEN]


class TestSecrets:
    async def test_a_server_that_quotes_what_it_does_not_know_shows_no_password(self) -> None:
        """As some do that have no AUTH."""

        async def quote(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked = (await reader.read(1000)).replace(b"\r\n", b" ")
            writer.write(b"-ERR unknown command with args beginning with: " + asked + b"\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(quote, HOST, 0) as made:
            port = made.sockets[0].getsockname()[1]
            async with linked(f"redis://bob:{SECRET}@{HOST}:{port}/0") as link:
                with pytest.raises(BrokerUnavailable, match="bob") as refused:
                    await link.call("PING")
        assert SECRET not in str(refused.value)


class TestFlavours:
    async def test_sentinels_lead_to_the_primary(self, tmp_path: Path) -> None:
        async with sentinels(tmp_path) as made, linked(made.url) as link:
            await works(link)
            await link.call("SET", link.key("a"), "1")
            assert await (await made.primary()).ask("GET", link.key("a")) == b"1"
            await made.sentinels[0].kill()
            async with linked(made.url) as other:
                await works(other)

    async def test_sentinels_that_are_away_are_told_briefly(self) -> None:
        one, two = free_port(), free_port()
        async with linked(f"redis+sentinel://{HOST}:{one},{HOST}:{two}/main") as link:
            with pytest.raises(BrokerUnavailable, match="main") as refused:
                await link.call("PING")
        assert "ConnectionError" in str(refused.value)
        assert "redis.asyncio" not in str(refused.value)

    async def test_a_cluster_has_all_in_one_slot(self, tmp_path: Path) -> None:
        async with cluster(tmp_path, replicas=False) as made, linked(made.url) as link:
            await works(link)
            broker = broker_on(link)
            async with broker.listen() as listening:
                await heard(listening)
                await append(broker, OPEN)
                assert await heard_entries(listening, 1) == [OPEN]
            owner = await made.owner(link.key("journal"))
            assert await owner.ask("XLEN", link.key("journal")) == 1
            assert [await one.ask("DBSIZE") > 0 for one in made.servers].count(True) == 1
            async with link.subscribed() as messages:
                slot = await owner.ask("CLUSTER KEYSLOT", link.channel)
                await owner.ask("CLUSTER DELSLOTS", slot)  # as when it goes to another server
                with pytest.raises(BrokerUnavailable, match="ended"):
                    await messages.message(LIMIT)


# TLS, with a certificate made here


@asynccontextmanager
async def _secured(folder: Path, certificate: tuple[Path, Path]) -> AsyncIterator[int]:
    """The TLS port of a server of the first build that has TLS."""
    port, (own, key) = free_port(), certificate
    options = {"tls_port": port, "tls_cert_file": own, "tls_key_file": key}
    options |= {"tls_ca_cert_file": own, "tls_auth_clients": "no", "appendonly": "no"}
    for binary in BINARIES.values():
        async with AsyncExitStack() as held:
            try:
                await held.enter_async_context(server(folder, binary=binary, **options))
            except AssertionError:
                continue  # it has ended: it knows no such option
            yield port
            return
    pytest.skip("no server with TLS on this machine")


async def test_over_tls_only_to_who_can_prove_who_it_is(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    async with _secured(tmp_path, certificate) as port:
        url = f"rediss://{HOST}:{port}"
        async with linked(f"{url}?ssl_ca_certs={certificate[0]}") as link:
            await works(link)
            assert str(link.address) == f"{url}/0"
        async with linked(url, limit=SHORT) as link:
            for asked in ASKED.values():
                with pytest.raises(BrokerUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
                    await asked(link)
        async with linked(f"redis://{HOST}:{port}", limit=SHORT) as link:
            for asked in ASKED.values():
                with pytest.raises(BrokerUnavailable):
                    await asked(link)
