//! Every iq route, asked for somebody else's data by a stranger, by a blocked contact, and by the account's own other
//! resource for comparison. A route that is not in the table fails the test.

use anyhow::{Context, Result, ensure};
use eider::access::Policy;
use eider::admin::metrics::Metrics;
use eider::admin::trace::Tracer;
use eider::config::load::from_text;
use eider::server::core::Core;
use eider::xep::Target;
use eider_tests::harness::{Kind, Server, temporary_directory};
use eider_tests::scripts::client::{Client, PATIENCE, Received};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

const PASSWORD: &str = "a-long-password";
/// In everything of juliet's that others must not see.
const SECRET: &str = "SECRET";

/// What an asker gets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gets {
    /// This error.
    Refused(&'static str),
    /// A result without anything of juliet's.
    Nothing,
    /// What is meant for everyone (a vCard).
    Public,
    /// A result, whatever it is.
    Result,
    /// Nothing: it is not asked, as it would end the account.
    Unasked,
}
use Gets::{Nothing, Public, Refused};

/// One request to one route.
struct Cell {
    target: Target,
    kind: &'static str,
    ns: &'static str,
    name: &'static str,
    /// Attributes and content of the payload.
    attributes: &'static str,
    content: &'static str,
    stranger: Gets,
    blocked: Gets,
    own: Gets,
}

const UNAVAILABLE: Gets = Refused("service-unavailable");

/// A request to juliet's account.
fn account(kind: &'static str, ns: &'static str, name: &'static str) -> Cell {
    Cell {
        target: Target::Account,
        kind,
        ns,
        name,
        attributes: "",
        content: "",
        stranger: UNAVAILABLE,
        blocked: UNAVAILABLE,
        own: Gets::Result,
    }
}

/// A request to the host.
fn server(kind: &'static str, ns: &'static str, name: &'static str) -> Cell {
    Cell {
        target: Target::Server,
        stranger: Nothing,
        blocked: Nothing,
        ..account(kind, ns, name)
    }
}

impl Cell {
    fn content(self, content: &'static str) -> Self {
        Cell { content, ..self }
    }

    fn attributes(self, attributes: &'static str) -> Self {
        Cell { attributes, ..self }
    }

    fn stranger(self, stranger: Gets) -> Self {
        Cell { stranger, ..self }
    }

    fn own(self, own: Gets) -> Self {
        Cell { own, ..self }
    }

    fn everyone(self, gets: Gets) -> Self {
        Cell {
            stranger: gets,
            blocked: gets,
            own: gets,
            ..self
        }
    }

    fn payload(&self) -> String {
        let Cell {
            ns,
            name,
            attributes,
            content,
            ..
        } = self;
        format!("<{name} xmlns='{ns}' {attributes}>{content}</{name}>")
    }
}

const INFO: &str = "http://jabber.org/protocol/disco#info";
const ITEMS: &str = "http://jabber.org/protocol/disco#items";
const LAST: &str = "jabber:iq:last";
const PING: &str = "urn:xmpp:ping";
const REGISTER: &str = "jabber:iq:register";
const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
const COMMANDS: &str = "http://jabber.org/protocol/commands";
const MAM: &str = "urn:xmpp:mam:2";
const CARBONS: &str = "urn:xmpp:carbons:2";
const BLOCKING: &str = "urn:xmpp:blocking";
const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
const OWNER: &str = "http://jabber.org/protocol/pubsub#owner";
const ROSTER: &str = "jabber:iq:roster";
const PRIVATE: &str = "jabber:iq:private";
const VCARD: &str = "vcard-temp";

fn server_cells() -> Vec<Cell> {
    let other = "<username>juliet</username><password>stolen-password</password>";
    vec![
        server("get", INFO, "query"),
        server("get", ITEMS, "query"),
        server("get", ITEMS, "query").attributes("node='http://jabber.org/protocol/commands'"),
        server("get", LAST, "query"),
        server("get", PING, "ping"),
        server("get", "jabber:iq:version", "query"),
        server("get", "urn:xmpp:time", "time"),
        server("set", SESSION, "session"),
        server("set", BIND, "bind").everyone(Refused("not-allowed")),
        server("get", REGISTER, "query"),
        server("set", REGISTER, "query")
            .content(other)
            .everyone(Refused("not-allowed"))
            .own(Gets::Result),
        server("set", COMMANDS, "command")
            .attributes("node='http://jabber.org/protocol/admin#delete-user' action='execute'")
            .everyone(Refused("forbidden")),
    ]
}

fn account_cells() -> Vec<Cell> {
    let item = "<item jid='eve@elsewhere.example' subscription='both'/>";
    let block = "<item jid='nurse@localhost'/>";
    let prefs = "<always/><never/>";
    vec![
        account("get", PING, "ping"),
        account("set", SESSION, "session"),
        account("set", BIND, "bind").own(Refused("not-allowed")),
        account("set", CARBONS, "enable"),
        account("set", CARBONS, "disable"),
        account("get", REGISTER, "query"),
        account("set", REGISTER, "query")
            .content("<remove/>")
            .own(Gets::Unasked),
        account("get", LAST, "query").stranger(Refused("forbidden")),
        account("get", ROSTER, "query"),
        account("set", ROSTER, "query")
            .content(item)
            .stranger(Refused("forbidden")),
        account("get", PRIVATE, "query").content("<x xmlns='urn:p'/>"),
        account("set", PRIVATE, "query").content("<x xmlns='urn:p'>forged</x>"),
        account("get", VCARD, "vCard").stranger(Public),
        account("set", VCARD, "vCard")
            .content("<FN>forged</FN>")
            .stranger(Refused("forbidden")),
        account("get", MAM, "query"),
        account("set", MAM, "query").attributes("queryid='q'"),
        account("get", MAM, "metadata"),
        account("get", MAM, "prefs"),
        account("set", MAM, "prefs")
            .attributes("default='never'")
            .content(prefs),
        account("get", BLOCKING, "blocklist"),
        account("set", BLOCKING, "block").content(block),
        account("set", BLOCKING, "unblock").content("<item jid='paris@localhost'/>"),
        account("get", INFO, "query"),
        account("get", INFO, "query").attributes("node='urn:SECRET'"),
        account("get", ITEMS, "query").stranger(Nothing),
        account("get", ITEMS, "query")
            .attributes("node='urn:SECRET'")
            .stranger(Refused("not-authorized")),
    ]
}

/// Reads and writes of a PEP node that contacts see, and changes of it.
fn pubsub_cells() -> Vec<Cell> {
    let forged =
        "<publish node='urn:SECRET'><item id='i'><x xmlns='urn:p'>forged</x></item></publish>";
    let options = "<configure node='urn:SECRET'/>";
    let affiliation = "<affiliations node='urn:SECRET'>\
        <affiliation jid='eve@localhost' affiliation='outcast'/></affiliations>";
    let refused = |condition, cell: Cell| cell.stranger(Refused(condition));
    vec![
        refused(
            "not-authorized",
            account("get", PUBSUB, "pubsub").content("<items node='urn:SECRET'/>"),
        ),
        refused(
            "not-authorized",
            account("set", PUBSUB, "pubsub")
                .content("<subscribe node='urn:SECRET' jid='eve@localhost'/>")
                .own(Refused("bad-request")),
        ),
        refused(
            "forbidden",
            account("set", PUBSUB, "pubsub").content(forged),
        ),
        refused(
            "forbidden",
            account("set", PUBSUB, "pubsub")
                .content("<retract node='urn:SECRET'><item id='none'/></retract>")
                .own(Refused("item-not-found")),
        ),
        refused(
            "service-unavailable",
            account("set", PUBSUB, "pubsub").content("<create node='urn:eve'/>"),
        ),
        refused(
            "forbidden",
            account("get", OWNER, "pubsub").content(options),
        ),
        refused(
            "forbidden",
            account("get", OWNER, "pubsub").content("<affiliations node='urn:SECRET'/>"),
        ),
        refused(
            "forbidden",
            account("get", OWNER, "pubsub").content("<subscriptions node='urn:SECRET'/>"),
        ),
        refused(
            "forbidden",
            account("set", OWNER, "pubsub").content(affiliation),
        ),
        refused(
            "forbidden",
            account("set", OWNER, "pubsub").content("<purge node='urn:SECRET'/>"),
        ),
        refused(
            "forbidden",
            account("set", OWNER, "pubsub").content("<delete node='urn:SECRET'/>"),
        ),
    ]
}

fn cells() -> Vec<Cell> {
    let mut cells = server_cells();
    cells.extend(account_cells());
    cells.extend(pubsub_cells());
    cells
}

fn key(target: Target, ns: &str, name: &str) -> String {
    format!("{target:?} {ns} {name}")
}

/// The routes of a core as it is built for a server.
async fn routes() -> Result<BTreeSet<String>> {
    let directory = temporary_directory()?;
    let text = format!("data_directory = '{}'", directory.display());
    let config = from_text(Path::new("routes.toml"), &text)?;
    let storage = eider_storage::open(&config.storage_config()).await?;
    let policy = Arc::new(Policy::new(&config));
    let (_sender, watch) = tokio::sync::watch::channel(Arc::new(config));
    let metrics = Arc::new(Metrics::new());
    let core = Core::build(watch, storage.clone(), metrics, Tracer::new(), policy).await?;
    let routes = core.parts.router.routes().all();
    let keys = routes
        .map(|route| key(route.target, route.ns, route.name))
        .collect();
    core.stop().await;
    storage.close().await;
    std::fs::remove_dir_all(directory)?;
    Ok(keys)
}

#[tokio::test]
async fn every_route_is_in_the_table() {
    let listed: BTreeSet<String> = cells()
        .iter()
        .map(|cell| key(cell.target, cell.ns, cell.name))
        .collect();
    let routes = routes().await.expect("a core is built");
    let missing: Vec<&String> = routes.difference(&listed).collect();
    let unknown: Vec<&String> = listed.difference(&routes).collect();
    assert!(missing.is_empty(), "not in the table: {missing:#?}");
    assert!(unknown.is_empty(), "no such routes: {unknown:#?}");
}

async fn log_in(server: &Server, user: &str, resource: &str) -> Result<Client> {
    let mut client = Client::connect(server, user, false).await?;
    client.open().await?;
    client.start_tls(server).await?;
    client.authenticate(PASSWORD).await?;
    client.bind(resource).await?;
    client.send(b"<presence/>").await?;
    client.barrier().await?;
    Ok(client)
}

/// The answer to a request, and whatever else came before it, written out.
async fn ask(client: &mut Client, kind: &str, to: &str, payload: &str) -> Result<(String, String)> {
    client.queue.clear();
    let iq = format!("<iq type='{kind}' id='cell' to='{to}'>{payload}</iq>");
    client.send(iq.as_bytes()).await?;
    let mut all = String::new();
    loop {
        match client.read(PATIENCE).await? {
            Received::Node(node) if node.attr("id") == Some("cell") => {
                all.push_str(&node.to_string());
                return Ok((node.summary(), all));
            }
            Received::Node(node) => all.push_str(&node.to_string()),
            other => anyhow::bail!("got {other:?}"),
        }
    }
}

async fn tell(client: &mut Client, kind: &str, payload: &str) -> Result<()> {
    let own = client.jid.split('/').next().unwrap_or_default().to_owned();
    let (summary, all) = ask(client, kind, &own, payload).await?;
    ensure!(summary == "iq result", "{payload}: {all}");
    Ok(())
}

/// Something of everything, all of it secret but the vCard.
async fn furnish(juliet: &mut Client, host: &str) -> Result<()> {
    for payload in [
        "<query xmlns='jabber:iq:private'><x xmlns='urn:p'>SECRET</x></query>",
        "<vCard xmlns='vcard-temp'><FN>Juliet</FN></vCard>",
        "<query xmlns='jabber:iq:roster'><item jid='SECRET@elsewhere.example' name='SECRET'/></query>",
        "<block xmlns='urn:xmpp:blocking'><item jid='SECRET@elsewhere.example'/></block>",
        "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:SECRET'><item id='i'>\
         <x xmlns='urn:p'>SECRET</x></item></publish></pubsub>",
    ] {
        tell(juliet, "set", payload).await?;
    }
    let message = format!("<message to='{}'><body>SECRET</body></message>", juliet.jid);
    juliet.send(message.as_bytes()).await?;
    juliet.barrier().await?;
    // Paris is a contact, then blocked.
    let paris = format!("<presence type='subscribed' to='paris@{host}'/>");
    juliet.send(paris.as_bytes()).await?;
    juliet.barrier().await?;
    let block = format!("<block xmlns='urn:xmpp:blocking'><item jid='paris@{host}'/></block>");
    tell(juliet, "set", &block).await
}

/// All that could have been changed, as juliet sees it.
async fn everything(juliet: &mut Client) -> Result<Vec<String>> {
    let own = juliet.jid.split('/').next().unwrap_or_default().to_owned();
    let mut all = Vec::new();
    for payload in [
        "<query xmlns='jabber:iq:private'><x xmlns='urn:p'/></query>",
        "<vCard xmlns='vcard-temp'/>",
        "<query xmlns='jabber:iq:roster'/>",
        "<blocklist xmlns='urn:xmpp:blocking'/>",
        "<prefs xmlns='urn:xmpp:mam:2'/>",
        "<metadata xmlns='urn:xmpp:mam:2'/>",
        "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:SECRET'/></pubsub>",
        "<pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><affiliations node='urn:SECRET'/></pubsub>",
        "<pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><configure node='urn:SECRET'/></pubsub>",
        "<query xmlns='http://jabber.org/protocol/disco#items'/>",
    ] {
        all.push(ask(juliet, "get", &own, payload).await?.1);
    }
    Ok(all)
}

/// Why an answer is not what a cell says; `None` where it is.
fn wrong(gets: Gets, summary: &str, all: &str) -> Option<String> {
    let fits = match gets {
        Refused(condition) => {
            summary.starts_with("iq error") && summary.ends_with(condition) && !all.contains(SECRET)
        }
        Nothing => summary == "iq result" && !all.contains(SECRET),
        Public => summary == "iq result" && all.contains("Juliet") && !all.contains(SECRET),
        Gets::Result | Gets::Unasked => summary == "iq result",
    };
    (!fits).then(|| format!("expected {gets:?}, got {all}"))
}

async fn ask_every_cell(
    client: &mut Client,
    who: &str,
    host: &str,
    gets: impl Fn(&Cell) -> Gets,
) -> Result<Vec<String>> {
    let mut failures = Vec::new();
    for cell in cells() {
        let to = match cell.target {
            Target::Server => host.to_owned(),
            Target::Account => format!("juliet@{host}"),
        };
        if gets(&cell) == Gets::Unasked {
            continue;
        }
        let payload = cell.payload();
        let (summary, all) = ask(client, cell.kind, &to, &payload)
            .await
            .with_context(|| format!("{who}: {payload}"))?;
        if let Some(why) = wrong(gets(&cell), &summary, &without_echo(&all, &payload)) {
            failures.push(format!("{who}, {} {payload}: {why}", cell.kind));
        }
    }
    Ok(failures)
}

/// The name that was asked with comes back in errors and results: it is no news.
fn without_echo(all: &str, payload: &str) -> String {
    if payload.contains("urn:SECRET") {
        all.replace("node='urn:SECRET'", "node='asked'")
    } else {
        all.to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_at_another_account() -> Result<()> {
    let server = Server::start(Kind::Eider, "")?;
    let users = ["juliet", "eve", "paris"].map(str::to_owned);
    server.add_accounts(&users, PASSWORD).await?;
    let host = server.domain.clone();
    let mut paris = log_in(&server, "paris", "x").await?;
    let ask_juliet = format!("<presence type='subscribe' to='juliet@{host}'/>");
    paris.send(ask_juliet.as_bytes()).await?;
    paris.barrier().await?;
    let mut juliet = log_in(&server, "juliet", "balcony").await?;
    furnish(&mut juliet, &host).await?;
    let mut eve = log_in(&server, "eve", "x").await?;
    let before = everything(&mut juliet).await?;

    let mut failures = ask_every_cell(&mut eve, "stranger", &host, |cell| cell.stranger).await?;
    failures.extend(ask_every_cell(&mut paris, "blocked", &host, |cell| cell.blocked).await?);
    assert_eq!(
        before,
        everything(&mut juliet).await?,
        "something has changed"
    );
    let mut other = log_in(&server, "juliet", "orchard").await?;
    failures.extend(ask_every_cell(&mut other, "own resource", &host, |cell| cell.own).await?);
    assert!(
        failures.is_empty(),
        "{}\n{} cells",
        failures.join("\n"),
        failures.len()
    );
    Ok(())
}
