"""Whether strangers can reach us: a node begins as a client and becomes a server once one has.

Behind most firewalls only those to whom we wrote can answer. So we ask a peer to have another peer
call us (PROBE); a call from a host to which we never wrote proves that we are open. On loopback and
private addresses there is nothing to prove. A server needs an ID that solves the puzzle.
"""

from __future__ import annotations

from collections import Counter, OrderedDict

from kademlia_node.core.contact import Address, Contact, is_local, prefix
from kademlia_node.core.identity import Capabilities, sign_card
from kademlia_node.core.ids import solves_puzzle
from kademlia_node.core.limiter import KeyedLimiter, TokenBucket
from kademlia_node.core.message import Ping, Probe, Probed, Response
from kademlia_node.net.ask import Asker, Reply
from kademlia_node.node.state import NodeState
from kademlia_node.settings import EXPIRY_DEFAULT_S


class Reach:
    """Our own reachability, and the calls by which peers find out theirs.

    `server` is True or False when the operator decided, None to find out.
    """

    def __init__(self, state: NodeState, *, server: bool | None) -> None:
        self._state = state
        self._decided = server
        self._votes: OrderedDict[bytes, Address] = OrderedDict()  # by the prefix of who tells
        settings = state.settings
        self._calls = TokenBucket(settings.probe_calls_per_s, settings.probe_calls_burst)
        self._asked: KeyedLimiter = KeyedLimiter(
            settings.probe_helps_per_s,
            settings.probe_helps_burst,
            keys_max=settings.probe_keys_max,
        )
        self._called: KeyedLimiter = KeyedLimiter(
            1 / settings.probe_host_s, 1, keys_max=settings.probe_keys_max
        )

    @property
    def address(self) -> Address | None:
        """Where most peers see us, one vote per prefix; None before any has told."""
        votes = Counter(self._votes.values()).most_common(1)
        return votes[0][0] if votes else None

    def begin(self) -> None:
        """The socket is open: become a server at once if that is decided or plain."""
        host = self._state.exchange.address.host
        if self._decided or (self._decided is None and is_local(host)):
            self._become_server()

    def retire(self) -> None:
        """We are leaving: a client from now on, that takes nothing more and is filed nowhere."""
        self._decided = False
        self._state.exchange.capabilities = Capabilities(server=False)

    def on_seen_as(self, address: Address, *, by: Contact) -> None:
        """A peer tells from where our packets come; only a neighbour can see a local address."""
        if is_local(address.host) and (not is_local(by.address.host) or self._is_public()):
            return
        self._votes[prefix(by.address.host)] = address
        if len(self._votes) > self._state.settings.address_votes:
            self._votes.popitem(last=False)
        if self._decided is None and is_local(address.host):
            self._become_server()

    def on_caller(self, contact: Contact) -> None:
        """Somebody calls us; if it is a stranger, we can be reached.

        On the internet, that is: there, a caller of our own link proves nothing.
        """
        if is_local(contact.address.host) and self._is_public():
            return
        if self._decided is None and not self._state.exchange.wrote_to(contact.address.host):
            self._become_server()

    def _is_public(self) -> bool:
        return any(not is_local(contact.address.host) for contact in self._state.table)

    def card(self) -> bytes:
        """Our signed node card, or nothing while we do not know where we are."""
        here = self.address or self._state.exchange.address
        if here.host in ANY:
            return b""
        wall = self._state.wall()
        return sign_card(
            self._state.identity,
            (here,),
            capabilities=self._state.exchange.capabilities,
            seq=int(wall * 1e6),
            expires=int(wall) + EXPIRY_DEFAULT_S,
            network=self._state.network,
        ).pack()

    async def probe(self) -> None:
        """As a client that may become a server, ask a peer to have us called."""
        if self._decided is not None or self._state.is_server or not self._solved():
            return
        peers = list(self._state.table)
        if peers:
            helper = self._state.rng.choice(peers)
            self._state.exchange.send(helper, Probe(), on_done=_ignore)

    def on_probe(self, asker: Asker, request: Probe, reply: Reply) -> None:
        """Serve a PROBE: pass the wish on, or carry it out."""
        now = self._state.loop.time()
        if request.contact is None:
            reply(Probed(self._pass_on(asker.contact, now=now)))
        else:
            reply(Probed(self._call(request.contact, now=now)))

    def _pass_on(self, asker: Contact, *, now: float) -> bool:
        if not self._asked.take(prefix(asker.address.host), now):
            return False
        own = prefix(asker.address.host)
        others = [c for c in self._state.table if prefix(c.address.host) != own]
        if not others:
            return False
        helper = self._state.rng.choice(others)
        self._state.exchange.send(helper, Probe(asker), on_done=_ignore)
        return True

    def _call(self, contact: Contact, *, now: float) -> bool:
        """One INIT, as to any hearsay: at most two sendings, a few keys per address and minute."""
        host = contact.address.host
        if is_local(host) or not self._called.take(host, now) or not self._calls.take(now):
            return False
        self._state.exchange.send(contact, Ping(), on_done=_ignore, proved=False)
        return True

    def _solved(self) -> bool:
        return solves_puzzle(self._state.identity.id, bits=self._state.network.puzzle_bits)

    def _become_server(self) -> None:
        if self._solved():
            self._state.exchange.capabilities = Capabilities(server=True)


ANY = frozenset({"0.0.0.0", "::"})  # noqa: S104 - names, nothing binds to them


def _ignore(_: Response | None) -> None:
    """Nothing to do: what a PROBE brings comes as a call from somebody else."""
