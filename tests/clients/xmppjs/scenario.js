// xmpp.js: login, roster and subscription, chat, archive, carbons, PEP, resumption.
import { webcrypto } from "node:crypto";
import { client, xml } from "@xmpp/client";

// Debian's node 18 has it as a module only; @xmpp/client expects the global.
globalThis.crypto ??= webcrypto;

const env = process.env;
const PATIENCE_MS = 20_000;
let passed = 0;
let failed = 0;

function check(name, condition, detail = "") {
  condition ? passed++ : failed++;
  console.log(`${condition ? "ok      " : "FAILED  "}${name} ${condition ? "" : detail}`);
}

function within(promise, what) {
  let timer;
  const late = new Promise((_, no) => {
    timer = setTimeout(() => no(new Error(`${what}: nothing came`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function make(jid, resource, service = `xmpp://127.0.0.1:${env.EIDER_PORT}`) {
  const [username, domain] = jid.split("@");
  const made = client({ service, domain, username, resource, password: env.EIDER_PASSWORD });
  made.seen = [];
  made.waiting = [];
  made.on("stanza", (stanza) => {
    const at = made.waiting.findIndex((one) => one.accept(stanza));
    if (at >= 0) made.waiting.splice(at, 1)[0].done(stanza);
    else made.seen.push(stanza);
  });
  made.on("error", () => {});
  made.stanza = (what, accept) => {
    const at = made.seen.findIndex(accept);
    if (at >= 0) return Promise.resolve(made.seen.splice(at, 1)[0]);
    return within(new Promise((done) => made.waiting.push({ accept, done })), what);
  };
  return made;
}

const bare = (jid) => String(jid).split("/")[0];
const say = (to, text) => xml("message", { type: "chat", to }, xml("body", {}, text));
const body = (text) => (s) => s.is("message") && s.getChildText("body") === text;
const presence = (type, from) => (s) => s.is("presence") && s.attrs.type === type && bare(s.attrs.from) === from;

async function subscription(romeo, juliet) {
  await romeo.send(xml("presence", { type: "subscribe", to: env.EIDER_JULIET }));
  await juliet.stanza("subscribe", presence("subscribe", env.EIDER_ROMEO));
  await juliet.send(xml("presence", { type: "subscribed", to: env.EIDER_ROMEO }));
  await romeo.stanza("subscribed", presence("subscribed", env.EIDER_JULIET));
  await romeo.stanza("presence", presence(undefined, env.EIDER_JULIET));
  await juliet.send(xml("presence", { type: "subscribe", to: env.EIDER_ROMEO }));
  await romeo.stanza("subscribe", presence("subscribe", env.EIDER_JULIET));
  await romeo.send(xml("presence", { type: "subscribed", to: env.EIDER_JULIET }));
  await juliet.stanza("presence", presence(undefined, env.EIDER_ROMEO));
  check("subscription approved, presence seen", true);
  const roster = await romeo.iqCaller.get(xml("query", { xmlns: "jabber:iq:roster" }));
  const item = roster.getChildren("item").find((i) => i.attrs.jid === env.EIDER_JULIET);
  check("roster says both", item?.attrs.subscription === "both");
}

async function chat(romeo, juliet, phone) {
  for (const one of [romeo, phone]) await one.iqCaller.set(xml("enable", { xmlns: "urn:xmpp:carbons:2" }));
  await romeo.send(say(env.EIDER_JULIET, "one"));
  check("chat to juliet", (await juliet.stanza("one", body("one"))).attrs.from === String(romeo.jid));
  await juliet.send(say(String(romeo.jid), "two"));
  check("chat back", (await romeo.stanza("two", body("two"))).attrs.from === String(juliet.jid));
  for (const kind of ["sent", "received"]) {
    const copy = await phone.stanza(kind, (s) => s.is("message") && s.getChild(kind, "urn:xmpp:carbons:2"));
    const inner = copy.getChild(kind, "urn:xmpp:carbons:2").getChild("forwarded").getChild("message");
    check(`carbon ${kind}`, ["one", "two"].includes(inner.getChildText("body")));
  }
}

async function archive(romeo) {
  const query = xml("iq", { type: "set" }, xml("query", { xmlns: "urn:xmpp:mam:2", queryid: "q" }));
  const fin = (await romeo.iqCaller.request(query)).getChild("fin", "urn:xmpp:mam:2");
  const texts = romeo.seen
    .filter((s) => s.getChild("result", "urn:xmpp:mam:2"))
    .map((s) => s.getChild("result").getChild("forwarded").getChild("message").getChildText("body"));
  check("archive query finished", fin?.attrs.complete === "true");
  check("archive holds all in order", texts.join() === "one,two", texts.join());
}

async function pep(romeo, juliet) {
  const node = "http://jabber.org/protocol/nick";
  const publish = xml("publish", { node }, xml("item", { id: "current" }, xml("nick", { xmlns: node }, "Montague")));
  await romeo.iqCaller.set(xml("pubsub", { xmlns: "http://jabber.org/protocol/pubsub" }, publish));
  const items = xml("pubsub", { xmlns: "http://jabber.org/protocol/pubsub" }, xml("items", { node }));
  const got = await juliet.iqCaller.get(items, env.EIDER_ROMEO);
  check("PEP item fetched", got.getChild("items").getChild("item").getChildText("nick") === "Montague");
}

async function resumption(romeo, juliet) {
  const management = romeo.streamManagement;
  check("stream management on", management.enabled && Boolean(management.id));
  const back = within(new Promise((done) => management.once("resumed", done)), "resumption");
  (romeo.socket.socket ?? romeo.socket).destroy();
  await juliet.send(say(String(romeo.jid), "while you were away"));
  await back;
  check("stream resumed", true);
  await romeo.stanza("message", body("while you were away"));
  check("message of the meantime arrives", true);
}

async function directTls() {
  const late = make(env.EIDER_ROMEO, "late", `xmpps://${env.EIDER_HOST}:${env.EIDER_DIRECT_PORT}`);
  await within(late.start(), "direct TLS");
  check("direct TLS", late.status === "online");
  await late.stop();
}

async function step(name, work) {
  try {
    await work();
  } catch (error) {
    check(name, false, error.stack);
  }
}

const romeo = make(env.EIDER_ROMEO, "orchard");
const juliet = make(env.EIDER_JULIET, "balcony");
const phone = make(env.EIDER_ROMEO, "phone");
for (const one of [romeo, juliet, phone]) {
  await step("login", async () => {
    await within(one.start(), "login");
    check("login", one.status === "online");
    await one.iqCaller.get(xml("query", { xmlns: "jabber:iq:roster" }));
    await one.send(xml("presence"));
    await one.stanza("own presence", presence(undefined, bare(one.jid)));
  });
}
await step("subscription", () => subscription(romeo, juliet));
await step("chat", () => chat(romeo, juliet, phone));
await step("archive", () => archive(romeo));
await step("PEP", () => pep(romeo, juliet));
await step("resumption", () => resumption(romeo, juliet));
await step("direct TLS", directTls);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
