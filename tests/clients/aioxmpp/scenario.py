"""aioxmpp: login, roster and subscription, chat, archive, carbons, PEP, blocking, resumption."""
import asyncio
import logging
import os
import socket

import aioxmpp
import aioxmpp.xso as xso
import OpenSSL.SSL
from shared import *

NICK = "http://jabber.org/protocol/nick"


def context():
    """TLS that trusts the server's authority alone; the host name is checked by the verifier."""
    made = OpenSSL.SSL.Context(OpenSSL.SSL.TLS_CLIENT_METHOD)
    made.load_verify_locations(CA)
    made.set_options(OpenSSL.SSL.OP_NO_SSLv2 | OpenSSL.SSL.OP_NO_SSLv3)
    return made


@aioxmpp.pubsub.xso.as_payload_class
class Nick(xso.XSO):
    TAG = (NICK, "nick")
    text = xso.Text(default=None)


class Query(xso.XSO):
    TAG = ("urn:xmpp:mam:2", "query")
    queryid = xso.Attr("queryid")


class Fin(xso.XSO):
    TAG = ("urn:xmpp:mam:2", "fin")
    complete = xso.Attr("complete", default=None)


aioxmpp.IQ.as_payload_class(Query)
aioxmpp.IQ.as_payload_class(Fin)


class MamForwarded(xso.XSO):
    TAG = ("urn:xmpp:forward:0", "forwarded")
    message = xso.Child([aioxmpp.Message])
    UNKNOWN_CHILD_POLICY = xso.UnknownChildPolicy.DROP


class Result(xso.XSO):
    TAG = ("urn:xmpp:mam:2", "result")
    queryid = xso.Attr("queryid", default=None)
    ident = xso.Attr("id")
    forwarded = xso.Child([MamForwarded])


aioxmpp.Message.archived = xso.Child([Result])


def client(jid):
    security = aioxmpp.make_security_layer(PASSWORD)._replace(
        ssl_context_factory=context, certificate_verifier_factory=aioxmpp.security_layer.PKIXCertificateVerifier)
    override = [("127.0.0.1", PORT, aioxmpp.connector.STARTTLSConnector())]
    made = aioxmpp.PresenceManagedClient(aioxmpp.JID.fromstr(jid), security, override_peer=override)
    made.roster = made.summon(aioxmpp.RosterClient)
    made.pep = made.summon(aioxmpp.PEPClient)
    made.nicks = made.pep.claim_pep_node(NICK, notify=True)
    made.carbons = made.summon(aioxmpp.CarbonsClient)
    made.blocking = made.summon(aioxmpp.BlockingClient)
    made.disco = made.summon(aioxmpp.DiscoClient)
    made.presences = made.summon(aioxmpp.PresenceClient)
    made.got = asyncio.Queue()
    made.everything = asyncio.Queue()
    dispatcher = made.summon(aioxmpp.dispatcher.SimpleMessageDispatcher)
    dispatcher.register_callback(None, None, made.everything.put_nowait)
    return made


async def body(of, text):
    while True:
        message = await asyncio.wait_for(of.everything.get(), PATIENCE)
        if message.body and message.body.any() == text:
            return message


async def wanted(of, accept):
    while True:
        message = await asyncio.wait_for(of.everything.get(), PATIENCE)
        if accept(message):
            return message


async def signalled(signal, act, accept=lambda *_: True):
    future = asyncio.get_event_loop().create_future()

    def handler(*arguments, **_):
        if accept(*arguments) and not future.done():
            future.set_result(arguments)
            return True
        return False
    signal.connect(handler)
    act()
    return await asyncio.wait_for(future, PATIENCE)


def chat_message(to, text):
    message = aioxmpp.Message(type_=aioxmpp.MessageType.CHAT, to=to)
    message.body[None] = text
    return message


async def subscription(romeo, juliet):
    r, j = romeo.local_jid.bare(), juliet.local_jid.bare()
    await signalled(juliet.roster.on_subscribe, lambda: romeo.roster.subscribe(j))
    await signalled(romeo.presences.on_available, lambda: juliet.roster.approve(r),
                    lambda full, _: full.bare() == j)
    check("subscription approved, presence seen", True)
    await signalled(romeo.roster.on_subscribe, lambda: juliet.roster.subscribe(r))
    await signalled(juliet.presences.on_available, lambda: romeo.roster.approve(j),
                    lambda full, _: full.bare() == r)
    for _ in range(PATIENCE * 10):
        if romeo.roster.items[j].subscription == "both":
            break
        await asyncio.sleep(0.1)
    check("roster says both", romeo.roster.items[j].subscription == "both")


async def chat(romeo, juliet, phone):
    await romeo.carbons.enable()
    await phone.carbons.enable()
    await romeo.send(chat_message(juliet.local_jid, "one"))
    got = await body(juliet, "one")
    check("chat to juliet", got.from_ == romeo.local_jid)
    await juliet.send(chat_message(romeo.local_jid, "two"))
    check("chat back", (await body(romeo, "two")).from_ == juliet.local_jid)
    copied = await wanted(phone, lambda m: m.xep0280_sent)
    check("carbon sent", copied.xep0280_sent.stanza.body.any() == "one")
    copied = await wanted(phone, lambda m: m.xep0280_received)
    check("carbon received", copied.xep0280_received.stanza.body.any() == "two")


async def archive(romeo):
    query = Query()
    query.queryid = "q1"
    fin = await romeo.send(aioxmpp.IQ(type_=aioxmpp.IQType.SET, payload=query))
    texts = []
    while not romeo.everything.empty():
        message = romeo.everything.get_nowait()
        if message.archived and message.archived.queryid == "q1":
            texts.append(message.archived.forwarded.message.body.any())
    check("archive query finished", isinstance(fin, Fin))
    check("archive holds all in order", texts == ["one", "two"], texts)


async def pep(romeo, juliet):
    events = asyncio.Queue()
    juliet.nicks.on_item_publish.connect(lambda *a, **_: events.put_nowait(a))
    nick = Nick()
    nick.text = "Montague"
    await romeo.pep.publish(NICK, nick)
    jid, node, item, *_ = await asyncio.wait_for(events.get(), PATIENCE)
    check("PEP event by +notify", jid.bare() == romeo.local_jid.bare() and
          item.registered_payload.text == "Montague")
    got = await juliet.summon(aioxmpp.PubSubClient).get_items(romeo.local_jid.bare(), NICK)
    check("PEP item fetched", got.payload.items[0].registered_payload.text == "Montague")


async def disco(romeo):
    info = await romeo.disco.query_info(aioxmpp.JID.fromstr(HOST))
    check("disco of the server", "urn:xmpp:carbons:2" in info.features)
    await aioxmpp.ping.ping(romeo, aioxmpp.JID.fromstr(HOST))
    check("ping the server", True)


async def blocking(romeo, juliet):
    await romeo.blocking.block_jids([juliet.local_jid.bare()])
    await juliet.send(chat_message(romeo.local_jid.bare(), "unheard"))
    refused = await wanted(juliet, lambda m: m.type_ == aioxmpp.MessageType.ERROR)
    check("blocked contact gets an error", refused.error.condition.name == "SERVICE_UNAVAILABLE")
    await romeo.blocking.unblock_all()
    await juliet.send(chat_message(romeo.local_jid.bare(), "heard"))
    await body(romeo, "heard")
    check("unblocked contact is heard", True)


async def resumption(romeo, juliet):
    check("stream management on", romeo.stream.sm_enabled)
    before = romeo.stream.sm_id
    socket_of = romeo.stream._xmlstream._transport.get_extra_info("socket")
    resumed = asyncio.ensure_future(signalled(romeo.on_stream_resumed, lambda: None))
    await signalled(romeo.on_stream_suspended, lambda: socket_of.shutdown(socket.SHUT_RDWR))
    await juliet.send(chat_message(romeo.local_jid, "while you were away"))
    await resumed
    check("stream resumed", romeo.stream.sm_id == before)
    await body(romeo, "while you were away")
    check("message of the meantime arrives", True)


async def step(name, coroutine):
    try:
        await asyncio.wait_for(coroutine, 60)
    except BaseException:
        failure(name)


async def main():
    clients = [client(ROMEO + "/orchard"), client(JULIET + "/balcony"), client(ROMEO + "/phone")]
    romeo, juliet, phone = clients
    for one in clients:
        await step("login", signalled(one.on_stream_established,
                                      lambda one=one: setattr(one, "presence", aioxmpp.PresenceState(True))))
    check("three logins", all(one.established for one in clients))
    await step("subscription", subscription(romeo, juliet))
    await step("chat", chat(romeo, juliet, phone))
    await step("archive", archive(romeo))
    await step("PEP", pep(romeo, juliet))
    await step("disco", disco(romeo))
    await step("blocking", blocking(romeo, juliet))
    await step("resumption", resumption(romeo, juliet))
    finish()

if os.environ.get("EIDER_DEBUG"):
    logging.basicConfig(level=logging.DEBUG)
asyncio.new_event_loop().run_until_complete(main())
