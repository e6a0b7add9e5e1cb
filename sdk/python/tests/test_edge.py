"""Clients and a backend against the real edge, in every version of both links."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import pathlib
import random
import re
import ssl as tls
import sys
import tracemalloc

import pytest
from rig import GRANTS, ROOT, Table, edge, next_of, within

import voltlane
import voltlane.machine
from voltlane import ClientId, Connected, Dropped, EdgeConnected, Ended, Joined, Packet, Resumed, Tick, _gate
from voltlane._link import Link, Place

CERTIFICATES = ROOT / "doors/tests/certificates"


def secured(transport: str) -> str:
    files = f'listener.certificate_file = "{CERTIFICATES}/edge.pem"\nlistener.key_file = "{CERTIFICATES}/edge.key"\n'
    return f'{files}listener.transport = "{transport}"\n'


#: What an edge needs for each door, and the address of a client.
DOORS = {
    "tcp": ("", "{}"),
    "tls": (secured("tls"), "tls://{}"),
    "ws": ('listener.transport = "ws"\n', "ws://{}/"),
    "wss": (secured("wss"), "wss://{}/"),
}

BOTH = [(client, link) for client in (2, 3) for link in (2, 3)]


@pytest.mark.parametrize(("of_client", "of_link"), BOTH)
async def test_everything_goes_both_ways(of_client: int, of_link: int) -> None:
    async with voltlane.Backend("127.0.0.1:0", version=of_link) as backend, edge(backend.address, GRANTS) as address:
        await next_of(backend, EdgeConnected)
        async with voltlane.Client(address, version=of_client) as client:
            first = await next_of(client, Connected)
            assert (client.id, client.version, client.is_connected) == (first.id, of_client, True)
            for length in [0, 1, 100, 65_536, 1 << 20]:
                packet = bytes(at * 7 >> 3 & 255 for at in range(length))
                await client.send(packet)
                got = await next_of(backend, Packet)
                assert (got.id, got.data) == (client.id, packet)
                await backend.send(client.id, got.data)
                back = await next_of(client, Packet)
                assert back.data == packet and back.id == client.id

            # A drop loses nothing of what was sent meanwhile.
            client.drop_connection()
            await client.send("while away")
            await backend.send(client.id, "for you")
            assert (await next_of(client, Dropped)).cause
            assert (await next_of(client, Resumed)).id == client.id
            assert (await next_of(client, Packet)).text == "for you"
            assert (await next_of(backend, Packet)).text == "while away"
            waiting = asyncio.ensure_future(next_of(backend, Ended))
            await within(client.flush())

            async with voltlane.Client(address, version=of_client) as second:
                await second.send("here")
                red = backend.group("red")
                assert red == backend.group("red") != backend.group("blue")
                while second.id not in backend.clients():
                    await asyncio.sleep(0.01)
                backend.add(red, client.id)
                await backend.send(voltlane.everyone, "all")
                await backend.send(voltlane.everyone, "second", without=[client.id])
                await backend.send(red, "red")
                await backend.send_latest(client.id, 7, "newest")
                for side, words in [(client, ["all", "red", "newest"]), (second, ["all", "second"])]:
                    assert [(await next_of(side, Packet)).text for _ in words] == words
                assert backend.members(red) == [client.id]
                backend.remove(red, client.id)
                backend.set_note(second.id, "user 17")
                assert backend.note(second.id) == "user 17"

                await backend.kick(second.id, 600, "not a position")
                assert (await within(waiting)).code == 600
                if of_client == 3:
                    end = await next_of(second, Ended)
                    assert (end.code, end.text) == ((600, "not a position") if of_link == 3 else (401, ""))
                    with pytest.raises(voltlane.SessionEnded):
                        await second.send("too late")
                    assert [event async for event in second] == []
            if of_client == 3:
                assert client.edge_key is not None and len(client.edge_key) == 66


@pytest.mark.parametrize("link", [2, 3])
def test_everything_goes_both_ways_under_uvloop(link: int) -> None:
    uvloop = pytest.importorskip("uvloop")
    loop = uvloop.new_event_loop()
    loop.run_until_complete(test_everything_goes_both_ways(3, link))
    loop.run_until_complete(test_every_door("wss", 3))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("door", ["tls", "ws", "wss"])
async def test_every_door(door: str, version: int) -> None:
    config, form = DOORS[door]
    context = None if door == "ws" else tls.create_default_context(cafile=str(CERTIFICATES / "authority.pem"))
    async with voltlane.Backend("127.0.0.1:0") as backend, edge(backend.address, config) as address:
        async with voltlane.Client(form.format(address), version=version, ssl=context) as client:
            for length in [0, 1, 65_536, 1 << 20]:
                packet = bytes(at * 7 >> 3 & 255 for at in range(length))
                await client.send(packet)
                got = await next_of(backend, Packet)
                assert (got.id, got.data) == (client.id, packet)
                await backend.send(client.id, packet)
                assert (await next_of(client, Packet)).data == packet
            client.drop_connection()
            await client.send("while away")
            assert (await next_of(client, Resumed)).id == client.id
            assert (await next_of(backend, Packet)).text == "while away"
            end = await client.close()
            assert end is not None and end.code == 0


async def test_what_is_no_websocket_is_told() -> None:
    async with voltlane.Backend("127.0.0.1:0") as backend, edge(backend.address) as address:
        # A listener without WebSocket ends the connection, or waits for what it knows.
        with pytest.raises(voltlane.ConnectError, match="no edge answered in time"):
            await voltlane.Client(f"ws://{address}/", give_up_after=0.3).connect()
    with pytest.raises(ValueError, match="WebSocket"):
        voltlane.Backend("ws://127.0.0.1:0/")
    # Who it is is told by a certificate.
    assert Place("wss://edge.example/").is_known and not Place("ws://edge.example/").is_known
    assert (Place("wss://edge.example/").port, Place("ws://edge.example/").port) == (443, 80)


async def test_ticks_come_and_do_not_pile_up() -> None:
    async with voltlane.Backend("127.0.0.1:0", tick=0.005) as backend, edge(backend.address) as address:
        async with voltlane.Client(address, tick=0.005) as client:
            assert (await next_of(client, Tick)).late >= 0
            for _ in range(10):
                await next_of(backend, Tick)
            # Nobody has read the client's meanwhile.
            assert [type(event) for event in client._events].count(Tick) <= 1
            assert (await next_of(client, Tick)).late >= 0
        assert client._ticking is None
    with pytest.raises(ValueError, match="tick"):
        voltlane.Client("127.0.0.1:1", tick=0)


CHILD = """
import asyncio, sys, voltlane

async def main():
    async with voltlane.Client(sys.argv[1], version=2, session_file=sys.argv[2]) as client:
        print(client.id, flush=True)
        while True:
            client.drop_connection()
            async for event in client:
                if isinstance(event, voltlane.Resumed):
                    break
            print(client.id, flush=True)

asyncio.run(main())
"""


async def test_a_killed_process_goes_on_with_its_session_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "session"
    async with voltlane.Backend("127.0.0.1:0") as backend, edge(backend.address) as address:
        first = None
        for turn in range(5):
            child = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, address, str(path), stdout=asyncio.subprocess.PIPE)
            assert child.stdout is not None
            # It is killed somewhere in a reconnect.
            for _ in range(1 + 3 * turn):
                id = int(await within(child.stdout.readline()))
                first = first or id
                assert id == first
            child.kill()
            await within(child.communicate())
            # As if it had been killed while it wrote.
            pathlib.Path(f"{path}.new").write_bytes(b"torn")
        assert path.stat().st_mode & 0o777 == 0o600
        async with voltlane.Client(address, version=2, session_file=path) as client:
            assert (await next_of(client, Resumed)).id == first == client.id
            with pytest.raises(voltlane.SessionInUse, match="session"):
                voltlane.Client(address, version=2, session_file=path)
        # It has left its session in the file.
        async with voltlane.connect(address, version=2, session_file=path) as client:
            assert (await next_of(client, Resumed)).id == first == client.id
            await client.close()
        # It has said goodbye, and the next one is another client.
        async with voltlane.Client(address, version=2, session_file=path) as client:
            assert (await next_of(client, Connected)).id != first
        with pytest.raises(ValueError, match="in place of"):
            voltlane.Client(address, session_file=path, saved=b"")
        whole = path.read_bytes()
        newer = whole[:8] + b"\3" + whole[9:]
        refused = [(b"no session", "no saved session"), (whole[:-1], "cut off"), (b"", "cut off"), (newer, "newer"), (b"\1" * 74, "older")]
        for content, says in refused:
            path.write_bytes(content)
            with pytest.raises(ValueError, match=f"session: .*{says}"):
                voltlane.Client(address, session_file=path)
            assert path.read_bytes() == content


@pytest.mark.parametrize("version", [2, 3])
async def test_a_session_that_cannot_be_saved_is_not_told(version: int, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "session"
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["exception"]))
    async with voltlane.Backend("127.0.0.1:0") as backend, edge(backend.address) as address:
        full = pathlib.Path(f"{path}.new")
        full.mkdir()
        client = voltlane.Client(address, version=version, session_file=path)
        opening = asyncio.create_task(client.connect())
        for _ in range(3):
            assert type(await within(client.__anext__())) is Dropped
            assert client.id == 0 and not opening.done()
        assert faults and all(isinstance(fault, OSError) for fault in faults)
        full.rmdir()
        await within(opening)
        begun = await next_of(client, (Connected, Resumed))
        assert type(begun) is Connected and begun.id == client.id != 0
        client.abort()
        async with voltlane.Client(address, version=version, session_file=path) as client:
            # An edge of version 3 may not have heard that the session began.
            assert version == 3 or (await next_of(client, Resumed)).id == begun.id


ONCE = """
import asyncio, sys, voltlane

COUNT = 400

async def main():
    async with voltlane.Client(
        sys.argv[1], version=3, session_file=sys.argv[2], ack="saved", give_up_after=None, tick=0.001
    ) as client:
        sent, got = (int(number) for number in client.state.split() or (0, 0))
        print("begun", flush=True)
        async for event in client:
            assert not isinstance(event, voltlane.Ended), event
            if isinstance(event, voltlane.Packet):
                assert event.text == str(got), (event.text, got)
                got += 1
            elif sent < COUNT and sent < got + 30:
                await client.send(str(sent))
                sent += 1
            await client.save(f"{sent} {got}")
            if got == COUNT:
                break
        print("done", flush=True)

asyncio.run(main())
"""


async def test_nothing_is_lost_or_doubled_by_a_process_that_is_killed_at_random(tmp_path: pathlib.Path) -> None:
    path, heard, hears = tmp_path / "session", [], asyncio.Event()

    async def echo(backend: voltlane.Backend) -> None:
        async for event in backend:
            if isinstance(event, Packet):
                heard.append(event.text)
                await backend.send(event.id, event.data)
                hears.set()

    async def reach(count: int) -> None:
        while len(heard) < count:
            hears.clear()
            await hears.wait()

    async with voltlane.Backend("127.0.0.1:0") as backend, edge(backend.address) as address:
        echoing = asyncio.create_task(echo(backend))
        kills, done = 0, False
        while not done:
            child = await asyncio.create_subprocess_exec(sys.executable, "-c", ONCE, address, str(path), stdout=asyncio.subprocess.PIPE)
            assert child.stdout is not None
            line = await within(child.stdout.readline())
            assert line in (b"begun\n", b"")
            if kills < 15:
                kills += 1
                # It is killed as it begins, or when so many packets more were heard of it.
                ends = [asyncio.ensure_future(reach(len(heard) + random.randrange(40))), asyncio.ensure_future(child.wait())]
                await within(asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED))
                ends[0].cancel()
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
            rest, _ = await within(child.communicate())
            assert child.returncode in (0, -9), child.returncode
            done = rest == b"done\n"
            assert done or child.returncode == -9
        assert heard == [str(number) for number in range(400)], kills
        assert path.stat().st_mode & 0o777 == 0o600
        echoing.cancel()


async def test_a_saved_session_goes_on_and_a_pinned_key_is_proven() -> None:
    async with voltlane.Backend("127.0.0.1:0") as backend, edge(backend.address) as address:
        first = voltlane.Client(address, version=2)
        await first.connect()
        saved, id = first.saved_session, first.id
        first.abort()
        async with voltlane.Client(address, version=2, saved=saved) as second:
            assert (await next_of(second, Resumed)).id == id == second.id
        async with voltlane.Client(address) as third:
            key = third.edge_key
        assert key is not None
        async with voltlane.Client(address, edge_keys=[key], token="ticket") as pinned:
            assert pinned.version == 3
        other = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
        with pytest.raises(voltlane.ConnectError, match="490"):
            await voltlane.Client(address, edge_keys=[other]).connect()


async def test_tokens_and_joins_over_a_unix_socket(tmp_path: pathlib.Path) -> None:
    async with voltlane.Backend(f"unix:{tmp_path}/b", version=3) as backend, edge(backend.address, GRANTS) as address:
        await next_of(backend, EdgeConnected)
        with pytest.raises(ValueError, match="token"):
            voltlane.Client(address, token="ticket 7")
        async with voltlane.Client(address, token="ticket 7", trust_first_use=True) as client:
            joined = await next_of(backend, Joined)
            assert (joined.id, joined.token, joined.again) == (client.id, b"ticket 7", False)
            assert Joined.__match_args__ == ("id", "token", "note", "again", "sent", "address")


async def test_over_a_link_of_version_2_a_client_joins_with_its_first_packet() -> None:
    async with voltlane.Backend("127.0.0.1:0") as backend, edge(backend.address) as address:
        async with voltlane.Client(address) as client:
            await client.send("first")
            await client.send("second")
            assert await next_of(backend, Joined) == Joined(client.id, b"", "", False, 0)
            for words in ["first", "second"]:
                event = await within(backend.__anext__())
                assert isinstance(event, Packet) and event.text == words


@pytest.mark.parametrize("link", [2, 3])
async def test_nothing_is_heard_of_a_client_before_it_is_verified(link: int) -> None:
    asked: asyncio.Queue[Joined] = asyncio.Queue()
    verdicts: dict[int, asyncio.Future[str]] = {}

    async def check(joined: Joined) -> str:
        verdicts[joined.id] = asyncio.get_running_loop().create_future()
        asked.put_nowait(joined)
        return await verdicts[joined.id]

    async with voltlane.Backend("127.0.0.1:0", version=link, verify=check) as backend, edge(backend.address, GRANTS) as address:
        await next_of(backend, EdgeConnected)
        reader = asyncio.ensure_future(next_of(backend, (Joined, Packet, Ended)))
        async with voltlane.Client(address, version=3, token="user 17", trust_first_use=True) as good:
            await good.send("early")
            joined = await within(asked.get())
            assert (joined.id, joined.token_text) == (good.id, "user 17" if link == 3 else "")
            # It is not there, for everyone either.
            assert backend.clients() == [] and not reader.done()
            await backend.send(voltlane.everyone, "not for it")
            async with voltlane.Client(address, version=3, token="nobody", trust_first_use=True) as bad:
                await bad.send("let me in")
                assert (await within(asked.get())).id == bad.id
                verdicts[bad.id].set_exception(voltlane.Refuse(605, "log in first"))
                end = await next_of(bad, Ended)
                assert (end.code, end.text) == ((605, "log in first") if link == 3 else (401, ""))
            assert not reader.done()
            verdicts[good.id].set_result("user 17")
            assert await within(reader) == Joined(good.id, joined.token, "user 17", False, 0, joined.address)
            assert (await next_of(backend, Packet)).text == "early"
            assert backend.note(good.id) == "user 17" and backend.clients() == [good.id]
            await backend.send(voltlane.everyone, "for all")
            assert (await next_of(good, Packet)).text == "for all"
            if link == 3:
                # What was held is acknowledged once it was told.
                waiting = asyncio.ensure_future(next_of(backend, Ended))
                await within(good.flush())
                waiting.cancel()


async def test_who_cannot_be_verified_is_refused() -> None:
    def check(joined: Joined) -> str:
        if joined.token == b"early":
            raise voltlane.Refuse(9999, "no code that a kick may have")
        raise RuntimeError("the check is broken")

    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    async with voltlane.Backend("127.0.0.1:0", version=3, verify=check) as backend, edge(backend.address, GRANTS) as address:
        await next_of(backend, EdgeConnected)
        for token, codes in [("early", (405, "no code that a kick may have")), ("", (405, ""))]:
            async with voltlane.Client(address, version=3, token=token or None, trust_first_use=True) as client:
                end = await next_of(client, Ended)
                assert (end.code, end.text) == codes
    assert [type(error) for error in told] == [RuntimeError]


async def test_one_that_sends_too_much_before_its_verdict_is_refused() -> None:
    async def check(joined: Joined) -> str:
        await asyncio.Event().wait()
        return ""

    packets = [Packet(7, b"", number) for number in range(1, _gate.MAX_HELD + 2)]
    judged: list[tuple[int, object]] = []
    machine = voltlane.machine.BackendMachine(bytes(16), admits=True)
    gate: _gate.Gate[object] = _gate.Gate(check, lambda id, verdict: judged.append((id, verdict)))
    assert not gate.passes(Joined(7, b"", "", False, 0), machine.mark) and gate.first_waiting() is not None
    assert gate.passes(Joined(8, b"", "user 8", True, 0), machine.mark)
    gate.begin()
    for packet in packets[:-1]:
        assert not gate.passes(packet, machine.mark)
    assert judged == []
    assert not gate.passes(packets[-1], machine.mark)
    assert [(id, verdict.code) for id, verdict in judged if isinstance(verdict, voltlane.Refuse)] == [(7, 405)]
    assert gate.let_in(ClientId(7), "too late") == [] and gate.first_waiting() is None
    # Its end is not told either, and the id is free again.
    assert not gate.passes(Ended(7, 405, ""), machine.mark) and gate.passes(packets[0], machine.mark)
    while gate._verifying:
        await asyncio.sleep(0)
    # No more than so many are asked for at a time.
    for id in range(100, 101 + _gate.MAX_VERIFYING):
        gate.passes(Joined(id, b"", "", False, 0), machine.mark)
    gate.begin()
    assert len(gate._verifying) <= _gate.MAX_VERIFYING and len(gate._asks) == 1
    # One that leaves makes room for the next.
    assert not gate.passes(Ended(100, 302, ""), machine.mark)
    while gate._asks:
        await asyncio.sleep(0)
    gate.end()
    while gate._verifying:
        await asyncio.sleep(0)
    assert gate.first_waiting() is None


def test_a_token_goes_only_to_an_edge_that_is_proven() -> None:
    proves = tls.create_default_context()
    names_nobody = tls.create_default_context()
    names_nobody.check_hostname = False
    proves_nothing = tls.create_default_context()
    proves_nothing.check_hostname = False
    proves_nothing.verify_mode = tls.CERT_NONE
    for address, ssl, is_known in [
        ("tls://edge.example:1", None, True),
        ("tls://edge.example:1", proves, True),
        ("edge.example:1", proves, True),
        ("tls://edge.example:1", names_nobody, False),
        ("tls://edge.example:1", proves_nothing, False),
        ("edge.example:1", None, False),
        ("unix:/run/edge.sock", None, True),
        ("unix:@edge", None, False),
        ("unix:@edge", proves, False),
    ]:
        assert Place(address, ssl).is_known == is_known, address
        if is_known:
            voltlane.Client(address, ssl=ssl, token="ticket")
        else:
            with pytest.raises(ValueError, match="token"):
                voltlane.Client(address, ssl=ssl, token="ticket")


async def test_another_session_begins_only_after_an_end_that_allows_it() -> None:
    async with voltlane.Backend("127.0.0.1:0", version=3) as backend, edge(backend.address, GRANTS) as address:
        await next_of(backend, EdgeConnected)
        async with voltlane.Client(address, version=3, start_over=True) as client:
            first = (await next_of(client, Connected)).id
            await next_of(backend, Joined)
            await backend.kick(first, 500, "another round")
            assert (await next_of(client, Ended)).code == 500
            second = (await next_of(client, Connected)).id
            assert second != first
            joined = await next_of(backend, Joined)
            assert joined.id == second
            await backend.kick(second, 600, "no more")
            assert (await next_of(client, Ended)).code == 600
            assert [event async for event in client] == []


async def test_a_client_that_is_asked_to_leave_comes_back() -> None:
    async with voltlane.Backend("127.0.0.1:0", version=3) as backend, edge(backend.address, GRANTS) as address:
        await next_of(backend, EdgeConnected)
        async with voltlane.Client(address, version=3) as client:
            joined = await next_of(backend, Joined)
            with pytest.raises(ValueError):
                backend.ask_to_leave(voltlane.everyone, -1)
            # Nobody has this id.
            backend.ask_to_leave(ClientId(7), 0)
            backend.ask_to_leave(joined.id, 0)
            await next_of(client, Dropped)
            await next_of(client, Resumed)
            await next_of(backend, Resumed)
            backend.ask_to_leave(voltlane.everyone, 0)
            await next_of(client, Dropped)
            await next_of(client, Resumed)
            await next_of(backend, Resumed)


async def test_a_backend_that_was_killed_goes_on() -> None:
    async with voltlane.Backend("127.0.0.1:0", version=3) as backend:
        place = backend.address
        async with edge(place, GRANTS) as address:
            await next_of(backend, EdgeConnected)
            async with voltlane.Client(address, version=3) as client:
                id = (await next_of(client, Connected)).id
                for text in ["1", "2", "3"]:
                    await client.send(text)
                assert (await next_of(backend, Joined)).id == id
                await backend.send(id, "down")
                for text in ["1", "2"]:
                    packet = await next_of(backend, Packet)
                    assert packet.text == text
                assert (await next_of(client, Packet)).text == "down"
                # What it told of 3, if anything, was not saved.
                await backend.close()
                restored = {id: packet.number, ClientId(7): 5}
                async with voltlane.Backend(place, version=3, restore=restored) as again:
                    joined = await next_of(again, Joined)
                    assert (joined.id, joined.sent) == (id, 1)
                    seen = await next_of(again, Packet)
                    assert (seen.text, seen.number) == ("3", 3)
                async with voltlane.Backend(place, version=3, restore={ClientId(7): 5}) as last:
                    assert (await next_of(last, Ended)).id == 7


async def test_a_volatile_packet_goes_now_or_not_at_all() -> None:
    async with voltlane.Backend("127.0.0.1:0", version=3) as backend, edge(backend.address, GRANTS) as address:
        await next_of(backend, EdgeConnected)
        client = voltlane.Client(address, version=3)
        with pytest.raises(voltlane.TooLong):
            client.send_volatile(bytes(client.max_packet + 1))
        assert client.send_volatile("not connected") is False
        async with client:
            await next_of(backend, Joined)
            client.try_send("first")
            assert client.send_volatile("behind it") is True
            for words in ["first", "behind it"]:
                assert (await next_of(backend, Packet)).text == words
            # The connection takes no more, and what waits is not passed.
            while client.send_volatile(bytes(1 << 18)):
                pass
            with pytest.raises(voltlane.TooLong):
                client.send_volatile(bytes(client.max_packet + 1))
            await backend.kick(client.id, 600)
            await next_of(client, Ended)
            with pytest.raises(voltlane.SessionEnded):
                client.send_volatile("too late")


async def test_what_cannot_be_is_told() -> None:
    for wrong in ["nowhere", "ws://", "ws://a:b/", "gopher://a:1", "a:70000", "unix:here", ""]:
        with pytest.raises(ValueError, match="an address is"):
            voltlane.Client(wrong)
    with pytest.raises(ValueError, match="66"):
        voltlane.Client("127.0.0.1:1", edge_keys=["12"])
    with pytest.raises(ValueError, match="2 and 3"):
        voltlane.Client("127.0.0.1:1", version=4)
    with pytest.raises(voltlane.ConnectError, match="no edge answered in time"):
        await voltlane.Client("127.0.0.1:1", give_up_after=0.2).connect()
    client = voltlane.Client("127.0.0.1:1")
    with pytest.raises(voltlane.TooLong):
        client.try_send(bytes(client.max_packet + 1))
    with pytest.raises(RuntimeError, match="async with"):
        await client.__anext__()


async def test_a_wait_can_be_cancelled_and_there_is_one_reader() -> None:
    async with voltlane.Backend("127.0.0.1:0") as backend, edge(backend.address) as address:
        async with voltlane.Client(address) as client:
            await next_of(client, Connected)
            for _ in range(3):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(client.__anext__(), 0.01)
            reader = asyncio.ensure_future(client.__anext__())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="one reader"):
                await client.__anext__()
            await client.send("x")
            await backend.send((await next_of(backend, Packet)).id, "y")
            assert isinstance(got := await within(reader), Packet) and got.text == "y"


@pytest.mark.parametrize("door", ["tcp", "ws"])
async def test_reconnects_leave_nothing_behind(door: str) -> None:
    async with voltlane.Backend("127.0.0.1:0") as backend, edge(backend.address, DOORS[door][0]) as address:
        # With version 3 the pauses would grow, since nothing is sent.
        async with voltlane.Client(DOORS[door][1].format(address), version=2) as client:
            traced = 0
            for turn in range(100):
                client.drop_connection()
                await next_of(client, Resumed)
                if turn == 50:
                    gc.collect()
                    tracemalloc.start()
                    traced = tracemalloc.get_traced_memory()[0]
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - traced
            tracemalloc.stop()
            # What the last connection has, and nothing of the fifty before it.
            assert grown < 100_000, grown
            alive = [one for one in gc.get_objects() if isinstance(one, (Link, asyncio.Transport))]
            # Those of both sides that are open, and those that are being closed.
            assert len([one for one in alive if isinstance(one, Link)]) <= 4, alive
            assert len(client._waiters) == 0
            assert len(asyncio.all_tasks()) <= 2


async def echo(backend: voltlane.Backend) -> None:
    async for event in backend:
        if isinstance(event, Packet):
            await backend.send(event.id, event.data)


async def test_a_session_is_kept_in_a_place_of_the_applications_own() -> None:
    table = Table()
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["exception"]))
    async with voltlane.listen("127.0.0.1:0", version=3) as backend, edge(backend.address, GRANTS) as address:
        echoing = asyncio.create_task(echo(backend))
        client = await voltlane.connect(address, session_store=table)
        id = client.id
        await client.send("first")
        assert (await next_of(client, Packet)).text == "first"
        await client.suspend()
        assert [event async for event in client] == []
        async with voltlane.connect(address, session_store=table) as client:
            assert (await next_of(client, Resumed)).id == id == client.id
            table.fails = True
            await client.send("second")
            await next_of(client, Dropped)
            assert any(isinstance(fault, RuntimeError) for fault in faults)
            table.fails = False
            client.drop_connection()
            # The first one again, which was taken behind what was stored last.
            while (await next_of(client, Packet)).text != "second":
                pass
        with pytest.raises(ValueError, match="same thing"):
            voltlane.connect(address, session_store=table, session_file="session")
        echoing.cancel()
    with pytest.raises(ValueError, match="keeps no session"):
        await voltlane.Client("127.0.0.1:9").suspend()


async def test_a_token_may_be_asked_for_and_set_again() -> None:
    async def ask() -> str:
        await asyncio.sleep(0)
        return "ticket 7"

    async with voltlane.listen("127.0.0.1:0", version=3) as backend, edge(backend.address, GRANTS) as address:
        async with voltlane.connect(address, token=ask, trust_first_use=True) as client:
            assert (await next_of(backend, Joined)).token_text == "ticket 7"
            client.set_token("ticket 8")
            assert (await next_of(backend, voltlane.Token)).token == b"ticket 8"
            await client.room()
        with pytest.raises(ValueError, match="4096"):
            client.set_token(bytes(5_000))


@pytest.mark.parametrize("version", [2, 3])
async def test_a_backend_hears_of_an_acknowledgement(version: int) -> None:
    async with voltlane.listen("127.0.0.1:0", version=version) as backend, edge(backend.address, GRANTS) as address:
        client = await voltlane.connect(address, version=3)
        await client.send("hello")
        id = (await next_of(backend, Packet)).id
        number = await backend.send(id, "answer")
        waits = asyncio.create_task(backend.acknowledged(id, number))
        assert (await next_of(client, Packet)).text == "answer"
        if version == 3:
            # Its application has not come back for more.
            await client.send("still here")
            await next_of(backend, Packet)
            assert not waits.done() and len(backend._waits) == 1
        more = asyncio.create_task(client.__anext__())
        await within(waits)
        assert not backend._waits
        await backend.acknowledged(id, number)
        if version == 3:
            late = asyncio.create_task(backend.acknowledged(id, number + 1))
            await asyncio.sleep(0)
            await client.close()
            reading = asyncio.create_task(next_of(backend, Ended))
            with pytest.raises(voltlane.SessionEnded):
                await within(late)
            await reading
            with pytest.raises(voltlane.SessionEnded):
                await backend.acknowledged(id, number + 1)
            assert not backend._waits
        more.cancel()
        client.abort()


SETTLED, ENDED = 0x18, 0x16


@pytest.mark.parametrize("has_settled", [True, False])
async def test_what_is_acknowledged_right_before_the_end_is_told(has_settled: bool) -> None:
    """The edge tells what is settled at most every 20 ms, so it may come in the read of the end, or in the end alone."""
    held, more = bytearray(), asyncio.Event()

    def hold(data: bytes) -> None:
        held.extend(data)
        more.set()

    async def reach(wanted: int) -> None:
        """Waits until such a frame was held. A frame has a length, an id and a flag."""
        while True:
            more.clear()
            at = 0
            while len(held) - at >= 13:
                if held[at + 12] == wanted:
                    return
                at += 4 + int.from_bytes(held[at : at + 4], "little")
            await more.wait()

    def leave_out(flag: int) -> None:
        at = 0
        while at < len(held):
            length = 4 + int.from_bytes(held[at : at + 4], "little")
            if held[at + 12] == flag:
                del held[at : at + length]
            else:
                at += length

    async with voltlane.listen("127.0.0.1:0", version=3) as backend, edge(backend.address, GRANTS) as address:
        await next_of(backend, EdgeConnected)
        client = await voltlane.connect(address, version=3)
        id = (await next_of(backend, Joined)).id
        number = await backend.send(id, "answer")
        waits = asyncio.create_task(backend.acknowledged(id, number))
        beyond = asyncio.create_task(backend.acknowledged(id, number + 1))
        assert (await next_of(client, Packet)).text == "answer"
        feed, backend._received = backend._received, hold  # type: ignore[method-assign]
        asking = asyncio.create_task(client.__anext__())
        await within(reach(SETTLED))
        await client.close()
        await asyncio.wait([asking])
        await within(reach(ENDED))
        assert not waits.done()
        if not has_settled:
            leave_out(SETTLED)
        feed(bytes(held))
        # Another read comes before those who wait.
        feed(b"")
        backend._received = feed  # type: ignore[method-assign]
        end = await next_of(backend, Ended)
        assert (end.id, end.code, end.ledger.down.acknowledged) == (id, 304, number)
        await within(waits)
        with pytest.raises(voltlane.SessionEnded) as raised:
            await within(beyond)
        assert raised.value.end == end
        # Also for whoever asks later.
        await backend.acknowledged(id, number)
        assert not backend._waits


async def test_the_readmes_first_example_runs() -> None:
    found = re.search(r"```python\n(.*?)```", (ROOT / "sdk/python/README.md").read_text(), re.S)
    assert found
    async with voltlane.Backend("127.0.0.1:0") as backend, edge(backend.address) as address:
        echoing = asyncio.ensure_future(echo(backend))
        code = found[1].replace("127.0.0.1:42000", address)
        example = await asyncio.create_subprocess_exec(
            sys.executable, "-X", "dev", "-c", code, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await within(example.communicate())
        assert (example.returncode, output) == (0, b"hello\n"), output
        echoing.cancel()
