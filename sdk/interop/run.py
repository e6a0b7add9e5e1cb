"""Every client with every backend, over loopback: run.py [some] [WORD]... [=COLUMN]... takes the rows that have all these words, and these
columns. With `some` it takes the doors of which the others are made: what is to pass in time for every commit.

It starts the edge that VOLTLANE names once for each backend and version of its link, with a listener for each door, and a peer for each
client. README.md describes what peers are told and tell. It prints a table, and fails if a cell does.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
EDGE = os.environ.get("VOLTLANE", str(TARGET / "release/voltlane"))
CERTIFICATES = ROOT / "doors/tests/certificates"
AUTHORITY = str(CERTIFICATES / "authority.pem")

#: How long something that must come may take, in seconds.
PATIENCE = 20.0
#: The edges that are there at a time. Each has one client under test.
MAX_EDGES = 3
#: The most seconds that all of it may take, and with `some`.
MAX_SECONDS, MAX_SECONDS_OF_SOME = 400.0, 150.0
#: The doors of `some`: the plain one, and the one that has every layer.
SOME = ("tcp", "wss")
#: Lines that a peer told and nobody asked for.
MAX_HEARD = 1000

RUST = str(TARGET / "debug/interop-peer")
PEERS = {
    "rust": [RUST, "tokio"],
    "tokio": [RUST, "tokio"],
    "smol": [RUST, "smol"],
    "c": [str(TARGET / "interop-peer-c")],
    "python": [sys.executable, str(HERE / "peer.py")],
    "node": ["node", str(HERE / "peer.mjs")],
}
DOORS = ["tcp", "unix", "tls", "ws", "wss"]
#: Chromium does not know Ed25519, so its listener for wss has another certificate.
PAGE_DOOR = "page"
CLIENTS = {
    "tokio": DOORS,
    "smol": DOORS,
    "c": DOORS,
    "python": DOORS,
    "node": DOORS,
    "chromium": ["ws", "wss"],
}
#: The versions of the link that each backend speaks.
BACKENDS = {"rust": [2, 3], "c": [2, 3], "python": [2, 3], "node": [2, 3]}
LENGTHS = [1, 100, 4096, 65_536, 1 << 20]
KICK = (600, "not-a-position")
NOT_PLAYED = "there was no time for it"


class Wrong(Exception):
    """A cell fails, in these words."""


def packet(length: int, seed: int) -> bytes:
    once = bytes((at * 7 >> 3) + seed & 255 for at in range(2048))
    return (once * (length // 2048 + 1))[:length]


def told(length: int, seed: int) -> str:
    """What a peer tells of a packet."""
    return f"{length} {zlib.crc32(packet(length, seed)):08x}"


class Peer:
    """What is told by a peer, in order, and what it is told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard: collections.deque[str] = collections.deque(maxlen=MAX_HEARD)
        self.has_more = asyncio.Event()

    def hear(self, line: str) -> None:
        self.heard.append(line)
        self.has_more.set()

    def say(self, line: str) -> None:
        raise NotImplementedError

    async def until(self, line: str, but: str = "nothing") -> str:
        """Waits for a line that matches, passes over those before it, and forgets them. None of those may match `but`."""
        passed: list[str] = []

        async def look() -> str:
            while True:
                while self.heard:
                    passed.append(self.heard.popleft())
                    if re.fullmatch(line, passed[-1]):
                        return passed[-1]
                    if re.match(f"fault|{but}", passed[-1]):
                        raise Wrong(f"the {self.name} told `{passed[-1]}`, before `{line}`")
                self.has_more.clear()
                await self.has_more.wait()

        try:
            return await asyncio.wait_for(look(), PATIENCE)
        except asyncio.TimeoutError:
            raise Wrong(f"the {self.name} did not tell `{line}`, but {passed[-5:]}") from None


class Program(Peer):
    """A peer that is a process."""

    process: asyncio.subprocess.Process
    reading: asyncio.Task[None]

    @staticmethod
    async def start(name: str, language: str, side: str, address: str, version: int) -> Program:
        peer = Program(name)
        environment = {**os.environ, "INTEROP_AUTHORITY": AUTHORITY}
        peer.process = await asyncio.create_subprocess_exec(
            *PEERS[language],
            side,
            address,
            str(version),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
        )
        peer.reading = asyncio.create_task(peer.read())
        return peer

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.hear(line.decode(errors="replace").rstrip("\n").rstrip())
        self.hear(f"fault it is gone, with {await self.process.wait()}")

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.reading


class Relay:
    """Passes connections on, and cuts them when it is told."""

    server: asyncio.Server
    address: str

    def __init__(self, to: str) -> None:
        self.to, self.is_off = to, False
        self.writers: set[asyncio.StreamWriter] = set()
        self.copies: set[asyncio.Task[None]] = set()

    @staticmethod
    async def start(to: str, unix: str | None = None) -> Relay:
        """Listens at a port, or at a Unix socket."""
        relay = Relay(to)
        if unix is not None:
            relay.server = await asyncio.start_unix_server(relay.accept, unix)
            relay.address = f"unix:{unix}"
        else:
            relay.server = await asyncio.start_server(relay.accept, "127.0.0.1", 0)
            relay.address = f"127.0.0.1:{relay.server.sockets[0].getsockname()[1]}"
        return relay

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_off:
            writer.transport.abort()
            return
        try:
            if self.to.startswith("unix:"):
                far_reader, far_writer = await asyncio.open_unix_connection(self.to[5:])
            else:
                host, port = self.to.split(":")
                far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        self.writers |= {writer, far_writer}
        for one, other in [(reader, far_writer), (far_reader, writer)]:
            copy = asyncio.create_task(self.copy(one, other))
            self.copies.add(copy)
            copy.add_done_callback(self.copies.discard)

    async def copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 18):
                writer.write(data)
                await writer.drain()
        self.writers.discard(writer)
        with contextlib.suppress(OSError):
            writer.close()

    def cut(self) -> None:
        for writer in list(self.writers):
            writer.transport.abort()
        self.writers.clear()

    def stop(self) -> None:
        self.server.close()
        self.cut()


class Page(Peer):
    """A client in Chromium."""

    def __init__(self, name: str, key: str, site: Site) -> None:
        super().__init__(name)
        self.key, self.site = key, site

    def say(self, line: str) -> None:
        self.site.say(f"{self.key} {line}")


@dataclass
class Site:
    """Serves the page of the clients in Chromium, and speaks with it."""

    origin: str = ""
    pages: dict[str, Page] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    has_commands: asyncio.Event = field(default_factory=asyncio.Event)
    keys: Iterator[int] = field(default_factory=itertools.count)
    answering: set[asyncio.Task[None]] = field(default_factory=set)

    def say(self, command: str) -> None:
        self.commands.append(command)
        self.has_commands.set()

    def open(self, name: str, address: str, version: int) -> Page:
        page = Page(name, f"p{next(self.keys)}", self)
        self.pages[page.key] = page
        page.say(f"begin {address} {version}")
        return page

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self.answer(reader, writer))
        self.answering.add(task)
        task.add_done_callback(self.answering.discard)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                where = head.split()[1].decode()
                length = re.search(rb"(?i)content-length: (\d+)", head)
                body = (await reader.readexactly(int(length[1]))).decode() if length else ""
                kind, answer = await self.page(where, body)
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(answer)}\r\n\r\n".encode() + answer)
        writer.close()

    async def page(self, where: str, body: str) -> tuple[str, bytes]:
        if where == "/told":
            key, _, line = body.partition(" ")
            for page in self.pages.values() if key == "page" else [self.pages[key]]:
                page.hear(line.rstrip())
            return "text/plain", b""
        if where == "/next":
            await self.has_commands.wait()
            self.has_commands.clear()
            commands, self.commands = self.commands, []
            return "text/plain", "\n".join(commands).encode()
        files = {
            "/": ("text/html", HERE / "peer.html"),
            "/peer.js": ("text/javascript", HERE / "peer.js"),
            "/voltlane.js": ("text/javascript", ROOT / "sdk/js/dist/browser.min.js"),
        }
        kind, path = files.get(where, ("text/plain", None))
        return kind, path.read_bytes() if path else b""


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Site]:
    site = Site()
    server = await asyncio.start_server(site.accept, "127.0.0.1", 0, limit=1 << 20)
    site.origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = await asyncio.create_subprocess_exec(
            "chromium-headless-shell",
            *flags,
            "--ignore-certificate-errors",
            f"--user-data-dir={profile}",
            f"{site.origin}/",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield site
        finally:
            # With the processes that it has started.
            os.killpg(browser.pid, 9)
            await browser.wait()
            server.close()
            for answering in site.answering:
                answering.cancel()
            await asyncio.gather(*site.answering, return_exceptions=True)


@contextlib.asynccontextmanager
async def edge(directory: str, backend: str, origin: str) -> AsyncIterator[dict[str, str]]:
    """An edge with a listener for each door. Gives their addresses."""
    config = 'general.shards = 1\nmaster.protocol = "auto"\nmetrics.address = ""\n'
    for door in [*DOORS, PAGE_DOOR]:
        address = f"unix:{directory}/edge.sock" if door == "unix" else "127.0.0.1:0"
        config += f'[[listener]]\nname = "{door}"\naddress = "{address}"\n'
        if door in ("tls", "ws", "wss", PAGE_DOOR):
            config += f'transport = "{"wss" if door == PAGE_DOOR else door}"\n'
        if door in ("ws", "wss", PAGE_DOOR):
            config += f"origins = [{json.dumps(origin)}]\n"
        if door in ("tls", "wss"):
            config += f'certificate_file = "{CERTIFICATES}/edge.pem"\nkey_file = "{CERTIFICATES}/edge.key"\n'
        if door == PAGE_DOOR:
            config += f'certificate_file = "{CERTIFICATES}/wild.pem"\nkey_file = "{CERTIFICATES}/wild.key"\n'
    pathlib.Path(directory, "connserver.toml").write_text(config)
    log = pathlib.Path(directory, "log")
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(EDGE, "--master", backend, cwd=directory, stdout=output, stderr=output)
    try:
        addresses: dict[str, str] = {}
        until = time.monotonic() + PATIENCE
        while len(addresses) <= len(DOORS):
            if process.returncode is not None or time.monotonic() > until:
                raise Wrong(f"the edge does not listen:\n{log.read_text()}")
            await asyncio.sleep(0.02)
            for line in log.read_text().splitlines():
                found = re.search(r"listening .*address=(\S+)", line)
                name = re.search(r"listening .*listener=\"?(\w+)", line)
                if found and name:
                    addresses[name[1]] = found[1]
        yield addresses
    finally:
        process.kill()
        await process.wait()


@dataclass(frozen=True)
class Client:
    language: str
    version: int
    door: str

    def __str__(self) -> str:
        return f"{self.language} {self.version} {self.door}"


@dataclass
class Rig:
    """A backend, an edge before it, and a witness: a client that is always there."""

    name: str
    link: int
    backend: Program
    witness: Program
    doors: dict[str, str]
    directory: str
    site: Site | None
    seeds: Iterator[int] = field(default_factory=lambda: itertools.cycle(range(1, 256)))

    async def exchange(self, client: Peer, id: str, lengths: list[int], step: str) -> None:
        """Packets in both directions, all at once."""
        sent = [(length, next(self.seeds)) for length in lengths]
        for length, seed in sent:
            client.say(f"send {length} {seed}")
            self.backend.say(f"send {id} {length} {seed}")
        await self.arrives(client, id, sent)

    async def arrives(self, client: Peer, id: str, sent: list[tuple[int, int]]) -> None:
        """Waits until these packets are at both sides, in order and without others."""
        for length, seed in sent:
            await self.backend.until(f"packet {id} {told(length, seed)}", but=f"packet {id}|ended {id}")
            await client.until(f"packet {told(length, seed)}", but="packet|ended")

    async def play(self, of: Client) -> str | None:
        """One cell. Returns what is wrong."""
        step = "begin"
        client: Peer | None = None
        relay: Relay | None = None
        try:
            unix = f"{self.directory}/{of.language}{of.version}.sock" if of.door == "unix" else None
            door = PAGE_DOOR if (of.language, of.door) == ("chromium", "wss") else of.door
            relay = await Relay.start(self.doors[door], unix)
            forms = {"tcp": "{}", "unix": "{}", "tls": "tls://{}", "ws": "ws://{}/", "wss": "wss://{}/"}
            address = forms[of.door].format(relay.address)

            step = "join"
            if of.language == "chromium":
                assert self.site is not None
                client = self.site.open("client", address, of.version)
            else:
                client = await Program.start("client", of.language, "client", address, of.version)
            id = (await client.until("connected [0-9a-f]{16}")).split()[1]
            # Over version 2 of the link a backend hears of a client with its first packet.
            client.say("send 1 0")
            await self.backend.until(f"joined {id}")
            await self.backend.until(f"packet {id} {told(1, 0)}", but=f"packet {id}|ended {id}")

            step = "packets"
            await self.exchange(client, id, LENGTHS, step)

            step = "drop"
            relay.is_off = True
            relay.cut()
            await client.until("dropped", but="packet|ended")
            # The edge has seen the end of the connection before it read this.
            await self.witnessed()
            step = "packets while away"
            sent = [(length, next(self.seeds)) for length in [10, 4096, 11]]
            for length, seed in sent:
                client.say(f"send {length} {seed}")
                self.backend.say(f"send {id} {length} {seed}")
            relay.is_off = False
            step = "resume"
            await client.until("resumed", but="packet|ended|connected")
            await self.backend.until(f"resumed {id}", but=f"packet {id}|ended {id}")
            step = "packets after the drop"
            await self.arrives(client, id, sent)

            step = "broadcast"
            seed = next(self.seeds)
            self.backend.say(f"all 33 {seed}")
            for one in (client, self.witness):
                await one.until(f"packet {told(33, seed)}", but="packet|ended")

            step = "kick"
            self.backend.say(f"kick {id} {KICK[0]} {KICK[1]}")
            await self.backend.until(f"ended {id} {KICK[0]}", but=f"packet {id}")
            if of.version == 2:
                # It is not told, and learns that the edge does not know its session.
                await client.until("ended [0-9]+ ?.*", but="packet|resumed")
            elif self.link == 3:
                await client.until(f"ended {KICK[0]} {KICK[1]}", but="packet|resumed|ended")
            else:
                await client.until("ended 401 ?.*", but="packet|resumed|ended")
            return None
        except Wrong as wrong:
            return f"{step}: {wrong}"
        finally:
            if isinstance(client, Program):
                await client.stop()
            if relay is not None:
                relay.stop()

    async def witnessed(self) -> None:
        seed = next(self.seeds)
        self.witness.say(f"send 5 {seed}")
        await self.backend.until(f"packet [0-9a-f]{{16}} {told(5, seed)}")


async def serve(backend: str, link: int, results: dict[Client, str | None], site: Site | None) -> None:
    """One column: all clients with one backend, one after the other, and then a cut of the link. Writes what is wrong to `results`."""
    with tempfile.TemporaryDirectory(prefix="interop-") as directory:
        programs: list[Program] = []
        relay: Relay | None = None
        try:
            behind = await Program.start("backend", backend, "backend", "127.0.0.1:0", link)
            programs.append(behind)
            listens = (await behind.until("listening .*")).split()[1]
            relay = await Relay.start(listens)
            async with edge(directory, relay.address, site.origin if site else "http://nowhere.example") as doors:
                await behind.until("edge")
                witness = await Program.start("witness", "tokio", "client", doors["tcp"], 3)
                programs.append(witness)
                await witness.until("connected .*")
                rig = Rig(f"{backend} {link}", link, behind, witness, doors, directory, site)
                await rig.witnessed()
                for row in results:
                    results[row] = await rig.play(row)
                relay.cut()
                await behind.until("edge-lost")
                await behind.until("edge")
                await rig.witnessed()
                witness.say("close")
                await witness.until("closed 0")
        except Wrong as wrong:
            # It is wrong whatever the client.
            results.update({row: f"link: {wrong}" for row, what in results.items() if what in (None, NOT_PLAYED)})
        finally:
            for program in programs:
                await program.stop()
            if relay is not None:
                relay.stop()


async def main(words: list[str]) -> bool:
    rows = [Client(language, version, door) for language, doors in CLIENTS.items() for version in (2, 3) for door in doors]
    columns = [(backend, link) for backend, links in BACKENDS.items() for link in links]
    if not shutil.which("chromium-headless-shell"):
        # CI has it: a cell that was not played is none.
        assert os.environ.get("CI") != "true", "there is no chromium-headless-shell: .ci/programs installs it"
        rows = [row for row in rows if row.language != "chromium"]
    is_some = words[:1] == ["some"]
    if is_some:
        words = words[1:]
        rows = [row for row in rows if row.door in SOME]
    if words:
        rows = [row for row in rows if all(word in str(row).split() for word in words if "=" not in word)]
        wanted = [word[1:] for word in words if word.startswith("=")]
        columns = [one for one in columns if not wanted or f"{one[0]}{one[1]}" in wanted]
    places = asyncio.Semaphore(MAX_EDGES)
    needs_page = any(row.language == "chromium" for row in rows)

    results: dict[tuple[str, int], dict[Client, str | None]] = {one: dict.fromkeys(rows, NOT_PLAYED) for one in columns}

    async def column(backend: str, link: int, site: Site | None) -> None:
        async with places:
            await serve(backend, link, results[backend, link], site)

    begun = time.monotonic()
    async with chromium() if needs_page else contextlib.nullcontext() as site:
        tasks = [asyncio.create_task(column(backend, link, site)) for backend, link in columns]
        done, late = await asyncio.wait(tasks, timeout=MAX_SECONDS_OF_SOME if is_some else MAX_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for task in done:
            task.result()
    print(f"{'client, version, door':22}" + "".join(f"{f'{backend} {link}':>10}" for backend, link in columns))
    for row in rows:
        print(f"{row!s:22}" + "".join(f"{'FAILS' if results[one][row] else 'ok':>10}" for one in columns))
    failures = [f"{row}, backend {one[0]}, link {one[1]}: {what}" for one in columns for row, what in results[one].items() if what]
    for failure in failures:
        print(failure)
    print(f"{len(rows) * len(columns) - len(failures)} of {len(rows) * len(columns)} in {time.monotonic() - begun:.0f} s")
    return not failures


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(main(sys.argv[1:])) else 1)
