"""nbxmpp: login, roster and subscription, chat, archive, carbons, PEP, blocking, resumption."""
import socket
import time

import gi
gi.require_version("Soup", "3.0")
from gi.repository import Gio, GLib

from nbxmpp.client import Client as NbxmppClient
from nbxmpp.const import ConnectionProtocol, ConnectionType
from nbxmpp.namespaces import Namespace
from nbxmpp.protocol import JID, Iq, Message, Presence
from nbxmpp.structs import StanzaHandler
from shared import *

# The server's authority and no other is trusted.
Gio.TlsBackend.get_default().set_default_database(Gio.TlsFileDatabase.new(CA))
PORTS = {ConnectionType.START_TLS: PORT, ConnectionType.DIRECT_TLS: DIRECT_PORT}


def wait(what, condition):
    context = GLib.MainContext.default()
    GLib.timeout_add(50, lambda: True)
    end = time.monotonic() + PATIENCE
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise TimeoutError(what)
        context.iteration(True)


class Client(NbxmppClient):
    def __init__(self, jid, resource, kind=ConnectionType.START_TLS, mechanisms=None):
        super().__init__(resource)
        user, domain = jid.split("@")
        self.set_domain(domain)
        self.set_username(user)
        self.set_password(PASSWORD)
        self.set_resource(resource)
        if mechanisms:
            self.set_mechs(mechanisms)
        self.set_custom_host(f"{HOST}:{PORTS[kind]}", ConnectionProtocol.TCP, kind)
        self.signals = []
        for name in ("connected", "resume-successful", "resume-failed", "disconnected", "connection-failed"):
            self.subscribe(name, self.signal)
        self.messages = []
        self.presences = []
        self.register_handler(StanzaHandler("message", callback=self.message, priority=90))
        self.register_handler(StanzaHandler("presence", callback=self.presence, priority=90))

    def signal(self, _client, name, *_):
        self.signals.append(name)

    def message(self, _client, stanza, properties):
        self.messages.append((stanza, properties))

    def presence(self, _client, stanza, _properties):
        self.presences.append((stanza.getType(), stanza.getFrom().bare))

    def login(self):
        self.connect()
        wait("login", lambda: self.signals)
        check(f"login {self.resource}", self.signals == ["connected"], str(self.get_error()))
        self.ask("Roster", "request_roster")
        self.send_stanza(Presence())

    def ask(self, module, method, *arguments, **options):
        done = []

        def finished(task):
            try:
                done.append((task.finish(), None))
            except Exception as error:
                done.append((None, error))
        getattr(self.get_module(module), method)(*arguments, **options, callback=finished)
        wait(method, lambda: done)
        result, error = done[0]
        if error:
            raise error
        return result

    def iq(self, stanza):
        done = []
        self.send_stanza(stanza, callback=lambda _client, answer: done.append(answer))
        return wait("iq", lambda: done)[0]

    def chat(self, to, text):
        self.send_stanza(Message(to=to, body=text, typ="chat"))

    def body(self, text, carbon=False):
        def found():
            for at, (stanza, properties) in enumerate(self.messages):
                if bool(properties.carbon) == carbon and properties.body == text:
                    return self.messages.pop(at)
            return None
        return wait(text, found)


def subscription(romeo, juliet):
    def get(client, kind, who):
        wait(f"{kind} of {who}", lambda: (kind, who) in client.presences)
    romeo.send_stanza(Presence(to=JULIET, typ="subscribe"))
    get(juliet, "subscribe", ROMEO)
    juliet.send_stanza(Presence(to=ROMEO, typ="subscribed"))
    get(romeo, "subscribed", JULIET)
    get(romeo, None, JULIET)
    juliet.send_stanza(Presence(to=ROMEO, typ="subscribe"))
    get(romeo, "subscribe", JULIET)
    romeo.send_stanza(Presence(to=JULIET, typ="subscribed"))
    get(juliet, None, ROMEO)
    check("subscription approved, presence seen", True)
    roster = romeo.ask("Roster", "request_roster")
    item = [i for i in roster.items if str(i.jid) == JULIET]
    check("roster says both", item and item[0].subscription == "both", roster)


def carbons(client):
    enable = Iq("set")
    enable.addChild("enable", namespace=Namespace.CARBONS)
    check("carbons on", client.iq(enable).getType() == "result")


def chat(romeo, juliet, phone):
    carbons(romeo)
    carbons(phone)
    romeo.chat(JULIET, "one")
    check("chat to juliet", juliet.body("one")[0].getFrom() == romeo.get_bound_jid())
    juliet.chat(str(romeo.get_bound_jid()), "two")
    check("chat back", romeo.body("two")[0].getFrom() == juliet.get_bound_jid())
    check("carbon sent", phone.body("one", True)[1].carbon.is_sent)
    check("carbon received", phone.body("two", True)[1].carbon.is_received)


def archive(romeo):
    romeo.messages.clear()
    fin = romeo.ask("MAM", "make_query", JID.from_string(ROMEO), queryid="q1")
    texts = [p.body for _, p in romeo.messages if p.mam and p.mam.query_id == "q1"]
    check("archive query finished", fin.complete)
    check("archive holds all in order", texts == ["one", "two"], texts)


def pep(romeo, juliet):
    info = juliet.ask("Discovery", "disco_info", ROMEO)
    check("account is a PEP service", info.has_category("pubsub"))
    item = romeo.ask("Nickname", "set_nickname", "Montague", public=False)
    check("nickname published", item is not None)
    got = juliet.ask("PubSub", "request_items", Namespace.NICK, jid=JID.from_string(ROMEO))
    check("PEP item fetched", got[0].getTag("nick").getData() == "Montague")


def blocking(romeo, juliet):
    romeo.ask("Blocking", "block", [JID.from_string(JULIET)])
    listed = romeo.ask("Blocking", "request_blocking_list")
    check("block list", [str(j) for j in getattr(listed, "blocked", listed)] == [JULIET], listed)
    juliet.chat(ROMEO, "unheard")
    wait("error", lambda: [s for s, _ in juliet.messages if s.getType() == "error"])
    check("blocked contact gets an error", True)
    romeo.ask("Blocking", "unblock", [JID.from_string(JULIET)])
    juliet.chat(ROMEO, "heard")
    romeo.body("heard")
    check("unblocked contact is heard", True)


def resumption(romeo, juliet):
    check("stream management on", romeo.resumeable)
    romeo.signals.clear()
    romeo._con._con.get_socket().shutdown(True, True)
    wait("loss", lambda: "disconnected" in romeo.signals)
    juliet.chat(ROMEO, "while you were away")
    romeo.connect()
    wait("resumption", lambda: {"resume-successful", "resume-failed", "connected"} & set(romeo.signals))
    check("stream resumed", "resume-successful" in romeo.signals, romeo.signals)
    romeo.body("while you were away")
    check("message of the meantime arrives", True)


def step(name, work, *arguments):
    try:
        work(*arguments)
    except Exception:
        failure(name)


romeo = Client(ROMEO, "orchard")
juliet = Client(JULIET, "balcony", mechanisms=["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])
phone = Client(ROMEO, "phone", ConnectionType.DIRECT_TLS, ["SCRAM-SHA-1"])
for client in (romeo, juliet, phone):
    step("login", client.login)
step("subscription", subscription, romeo, juliet)
step("chat", chat, romeo, juliet, phone)
step("archive", archive, romeo)
step("PEP", pep, romeo, juliet)
step("blocking", blocking, romeo, juliet)
step("resumption", resumption, romeo, juliet)
finish()
