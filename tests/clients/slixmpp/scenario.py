"""slixmpp: login, roster and subscription, chat, archive, carbons, PEP, resumption."""
import asyncio
import ssl

import slixmpp
from slixmpp.xmlstream import ET
from shared import *


class Client(slixmpp.ClientXMPP):
    def __init__(self, jid, mechanism=None):
        super().__init__(jid, PASSWORD, sasl_mech=mechanism)
        for plugin in ("xep_0030", "xep_0060", "xep_0092", "xep_0115", "xep_0163", "xep_0191", "xep_0198",
                       "xep_0199", "xep_0280", "xep_0313", "xep_0084", "xep_0172", "xep_0054", "xep_0402"):
            self.register_plugin(plugin)
        self.enable_direct_tls = False
        self.ca_certs = CA
        self.got = asyncio.Queue()
        self.add_event_handler("message", self.got.put_nowait)
        self.online = asyncio.Event()
        self.add_event_handler("session_start", lambda _: self.online.set())
        self.resumed = asyncio.Event()
        self.add_event_handler("session_resumed", lambda _: self.resumed.set())
        self.refused = []
        self.add_event_handler("failed_auth", self.refused.append)

    async def login(self, direct=False):
        if direct:
            self.enable_direct_tls = True
            self.enable_starttls = False
        self.connect(HOST, DIRECT_PORT if direct else PORT)
        await asyncio.wait_for(self.online.wait(), PATIENCE)
        await self.get_roster()
        self.send_presence()

    async def body(self, text):
        while True:
            message = await asyncio.wait_for(self.got.get(), PATIENCE)
            if message["body"] == text:
                return message


def waiter(client, event, accept=lambda _: True):
    future = asyncio.get_running_loop().create_future()

    def handler(data):
        if not future.done() and accept(data):
            future.set_result(data)
    client.add_event_handler(event, handler)
    return asyncio.wait_for(future, PATIENCE)


async def subscription(romeo, juliet):
    romeo.auto_authorize = juliet.auto_authorize = None
    asked = waiter(juliet, "presence_subscribe")
    romeo.send_presence_subscription(JULIET)
    await asked
    seen = waiter(romeo, "presence_available", lambda p: p["from"].bare == JULIET)
    approved = waiter(romeo, "presence_subscribed")
    juliet.send_presence_subscription(ROMEO, ptype="subscribed")
    await approved
    await seen
    check("subscription approved, presence seen", True)
    asked = waiter(romeo, "presence_subscribe")
    juliet.send_presence_subscription(ROMEO)
    await asked
    approved = waiter(juliet, "presence_subscribed")
    romeo.send_presence_subscription(JULIET, ptype="subscribed")
    await approved
    await romeo.get_roster()
    check("roster says both", romeo.client_roster[JULIET]["subscription"] == "both")


async def chat(romeo, juliet, phone):
    romeo.send_message(JULIET, "one", mtype="chat")
    check("chat to juliet", (await juliet.body("one"))["from"] == romeo.boundjid)
    copied = waiter(phone, "carbon_received")
    sent = waiter(phone, "carbon_sent", lambda m: m["carbon_sent"]["body"] == "three")
    juliet.send_message(romeo.boundjid.full, "two", mtype="chat")
    check("chat back", (await romeo.body("two"))["from"] == juliet.boundjid)
    check("carbon received", (await copied)["carbon_received"]["body"] == "two")
    romeo.send_message(JULIET, "three", mtype="chat")
    await juliet.body("three")
    await sent
    check("carbon sent", True)


async def archive(romeo):
    texts = []
    async for message in romeo["xep_0313"].iterate(with_jid=slixmpp.JID(JULIET)):
        texts.append(message["mam_result"]["forwarded"]["stanza"]["body"])
    check("archive holds all in order", texts[-3:] == ["one", "two", "three"], texts)


async def pep(romeo, juliet):
    juliet["xep_0163"].add_interest("http://jabber.org/protocol/nick")
    await juliet["xep_0115"].update_caps()
    told = waiter(juliet, "user_nick_publish", lambda m: m["from"].bare == ROMEO)
    await romeo["xep_0172"].publish_nick("Montague")
    message = await told
    nick = message["pubsub_event"]["items"]["item"]["nick"]["nick"]
    check("PEP event by +notify", nick == "Montague", nick)
    image = b"\x89PNG not really"
    await romeo["xep_0084"].publish_avatar(image)
    ident = romeo["xep_0084"].generate_id(image)
    await romeo["xep_0084"].publish_avatar_metadata({"id": ident, "type": "image/png", "bytes": len(image)})
    got = await juliet["xep_0084"].retrieve_avatar(slixmpp.JID(ROMEO), ident)
    data = got["pubsub"]["items"]["item"]["avatar_data"]["value"]
    check("avatar fetched by the contact", data == image, data)
    item = ET.fromstring("<conference xmlns='urn:xmpp:bookmarks:1' name='Balcony'/>")
    options = romeo["xep_0004"].make_form(ftype="submit")
    options.add_field("FORM_TYPE", ftype="hidden", value="http://jabber.org/protocol/pubsub#publish-options")
    for key, value in (("persist_items", "true"), ("access_model", "whitelist"), ("max_items", "max")):
        options.add_field("pubsub#" + key, value=value)
    await romeo["xep_0060"].publish(None, "urn:xmpp:bookmarks:1", id="room@muc.example", payload=item,
                                    options=options)
    items = await romeo["xep_0060"].get_items(None, "urn:xmpp:bookmarks:1")
    check("bookmark kept", [i["id"] for i in items["pubsub"]["items"]] == ["room@muc.example"])
    try:
        await juliet["xep_0060"].get_items(slixmpp.JID(ROMEO), "urn:xmpp:bookmarks:1")
        check("bookmarks are private", False)
    except slixmpp.exceptions.IqError as error:
        check("bookmarks are private", error.condition in ("forbidden", "not-allowed"), error.condition)


async def queries(romeo, juliet):
    info = await romeo["xep_0030"].get_info(jid=HOST)
    features = set(info["disco_info"]["features"])
    check("disco of the server", {"jabber:iq:version", "urn:xmpp:carbons:2"} <= features, features)
    own = await romeo["xep_0030"].get_info(jid=ROMEO)
    check("account is a PEP service", ("pubsub", "pep") in
          {(i[0], i[1]) for i in own["disco_info"]["identities"]})
    check("ping the server", (await romeo["xep_0199"].ping(HOST)) >= 0)
    check("ping the contact", (await romeo["xep_0199"].ping(juliet.boundjid)) >= 0)
    version = await juliet["xep_0092"].get_version(HOST)
    check("server names itself", bool(version["software_version"]["name"]))
    vcard = romeo["xep_0054"].stanza.VCardTemp()
    vcard["FN"] = "Romeo Montague"
    await romeo["xep_0054"].publish_vcard(vcard)
    got = await juliet["xep_0054"].get_vcard(slixmpp.JID(ROMEO))
    check("vCard read by the contact", got["vcard_temp"]["FN"] == "Romeo Montague")


async def blocking(romeo, juliet):
    await romeo["xep_0191"].block(slixmpp.JID(JULIET))
    refused = waiter(juliet, "message_error")
    juliet.send_message(ROMEO, "unheard", mtype="chat")
    check("blocked contact gets an error", (await refused)["error"]["condition"] == "service-unavailable")
    await romeo["xep_0191"].unblock(slixmpp.JID(JULIET))
    juliet.send_message(ROMEO, "heard", mtype="chat")
    await romeo.body("heard")
    check("unblocked contact is heard", True)


async def resumption(romeo, juliet):
    check("stream management on", romeo["xep_0198"].enabled_in)
    lost = waiter(romeo, "disconnected")
    romeo.abort()
    await lost
    juliet.send_message(ROMEO, "while you were away", mtype="chat")
    romeo.resumed.clear()
    romeo.connect(HOST, PORT)
    await asyncio.wait_for(romeo.resumed.wait(), PATIENCE)
    check("stream resumed", True)
    await romeo.body("while you were away")
    check("message of the meantime arrives", True)


async def offline(juliet):
    late = Client(ROMEO + "/late")
    await late.login(direct=True)
    check("direct TLS", True)
    await late.disconnect()


async def step(name, coroutine):
    try:
        await asyncio.wait_for(coroutine, 60)
    except BaseException:
        failure(name)


async def main():
    romeo, juliet = Client(ROMEO + "/orchard"), Client(JULIET + "/balcony")
    phone = Client(ROMEO + "/phone", "SCRAM-SHA-256")
    for client in (romeo, juliet, phone):
        await step("login", client.login())
    check("three logins", all(c.online.is_set() for c in (romeo, juliet, phone)))
    await step("carbons", romeo["xep_0280"].enable())
    await step("carbons", phone["xep_0280"].enable())
    await step("subscription", subscription(romeo, juliet))
    await step("chat", chat(romeo, juliet, phone))
    await step("archive", archive(romeo))
    await step("PEP", pep(romeo, juliet))
    await step("queries", queries(romeo, juliet))
    await step("blocking", blocking(romeo, juliet))
    await step("resumption", resumption(romeo, juliet))
    await step("direct TLS", offline(juliet))
    finish()

asyncio.run(main())
