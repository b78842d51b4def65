//! The steps of protocol scripts; `tests/scripts/README.md` says what each does.

use super::checks;
use super::client::{Client, PATIENCE, Received, SASL, SM};
use super::parse::Step;
use super::run::{PASSWORD, Run};
use super::xml;
use anyhow::{Context, Result, bail, ensure};
use std::time::Duration;

/// How long a client that is not logged in listens before it counts as silence.
const SILENCE: Duration = Duration::from_millis(300);

pub async fn step(run: &mut Run<'_>, step: &Step) -> Result<()> {
    let words: Vec<&str> = step.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["account", ..] => Ok(()),
        ["friends", a, b] => friends(run, a, b).await,
        ["everyone", "settles"] => run.settle().await,
        ["wait", ms, "ms"] => {
            tokio::time::sleep(Duration::from_millis(ms.parse()?)).await;
            Ok(())
        }
        ["the", "server", "restarts"] => tokio::task::block_in_place(|| {
            run.server.terminate()?;
            run.server.run()
        }),
        ["the", "configuration", "becomes"] => {
            run.server.change_config(&step.body)?;
            command(run, &["reload"]).await
        }
        ["the", "server", "has", "refused", "by", limit] => refused(run, limit).await,
        ["eider", arguments @ ..] => command(run, arguments).await,
        [who, "is", "asked", "by", other] => checks::asked(run, who, other, true).await,
        [who, "is", "not", "asked", "by", other] => checks::asked(run, who, other, false).await,
        [who, action @ ..] if who.contains('/') => acts(run, who, action, step).await,
        _ => bail!("no such step"),
    }
}

async fn acts(run: &mut Run<'_>, who: &str, action: &[&str], step: &Step) -> Result<()> {
    match action {
        ["logs", "in"] => log_in(run, who, &[]).await,
        ["logs", "in", "with", options @ ..] => log_in(run, who, options).await,
        ["resumes", old] => resume(run, who, old, None).await,
        ["resumes", old, "with", "h", h] => resume(run, who, old, Some(h.parse()?)).await,
        ["opens"] => run.client(who)?.open().await,
        ["starts", "tls"] => {
            let server = run.server;
            run.client(who)?.start_tls(server).await
        }
        ["sends"] => {
            let bytes = sent(run, step, "")?;
            run.client(who)?.send(&bytes).await
        }
        ["sends", times, "times"] => {
            let bytes = sent(run, step, &format!("{times} x "))?;
            let bytes = bytes.repeat(times.parse()?);
            run.client(who)?.send(&bytes).await
        }
        ["trickles"] => {
            let bytes = sent(run, step, "byte by byte ")?;
            run.client(who)?.trickle(&bytes).await
        }
        ["gets", what @ ..] => gets(run, who, what, step).await,
        ["finds"] => {
            for expected in run.block(step)? {
                run.expect(who, &expected, true).await?;
            }
            Ok(())
        }
        ["has", "features"] => checks::has_features(run, who, step),
        ["has", "not", "got"] => checks::has_not_got(run, who, step).await,
        ["sees", other, "as", state @ ..] => checks::sees(run, who, other, state).await,
        ["closes"] => run.client(who)?.close().await,
        ["drops"] => {
            run.client(who)?.cut();
            Ok(())
        }
        _ => bail!("no such step"),
    }
}

/// The bytes of a step that sends; noted.
fn sent(run: &mut Run<'_>, step: &Step, how: &str) -> Result<Vec<u8>> {
    let bytes = run.fill(&step.body)?;
    let note = format!("{how}{}", step.body.replace('\n', ""));
    run.exchange.sent.push(note);
    Ok(bytes)
}

async fn gets(run: &mut Run<'_>, who: &str, what: &[&str], step: &Step) -> Result<()> {
    if let ["nothing" | "header" | "end" | "cut"] | ["stream", "error", _] = what {
        let came = gets_no_stanza(run, who, what).await;
        if came.is_ok() {
            run.exchange.got.push(what.join(" "));
        }
        return came;
    }
    match what {
        [] => {
            for expected in run.block(step)? {
                run.expect(who, &expected, false).await?;
            }
            Ok(())
        }
        ["in", "any", "order"] => {
            let wanted = run.block(step)?;
            run.expect_set(who, wanted).await
        }
        ["error", condition] => error(run, who, None, condition).await,
        ["error", kind, condition] => error(run, who, Some(kind), condition).await,
        ["failure", condition] => {
            let expected = format!("<failure xmlns='{SASL}'>...<{condition}/></failure>");
            run.expect(who, &xml::parse_all(&expected)?[0], false).await
        }
        _ => bail!("no such step"),
    }
}

async fn gets_no_stanza(run: &mut Run<'_>, who: &str, what: &[&str]) -> Result<()> {
    match what {
        ["nothing"] => nothing(run, who).await,
        ["header"] => match run.client(who)?.read(PATIENCE).await? {
            Received::Header(_) => Ok(()),
            other => bail!("got {other:?}"),
        },
        ["end"] => ended(run.client(who)?, true).await,
        ["cut"] => ended(run.client(who)?, false).await,
        ["stream", "error", condition] => stream_error(run.client(who)?, condition).await,
        _ => bail!("no such step"),
    }
}

async fn nothing(run: &mut Run<'_>, who: &str) -> Result<()> {
    run.barrier().await?;
    let client = run.client(who)?;
    if !client.bound {
        return match client.read(SILENCE).await? {
            Received::Silence => Ok(()),
            other => bail!("got {other:?}"),
        };
    }
    match client.queue.iter().find(|node| node.ns != SM) {
        None => Ok(()),
        Some(node) => bail!("got {node}"),
    }
}

/// The end of the stream: with `</stream:stream>` or without.
async fn ended(client: &mut Client, closed: bool) -> Result<()> {
    let mut end = false;
    client.bound = false;
    loop {
        match client.read(PATIENCE).await? {
            Received::End => end = true,
            Received::Cut => break,
            Received::Node(node) if node.is("error", xml::STREAMS) => bail!("got {node}"),
            Received::Node(node) => client.queue.push_back(node),
            other => bail!("expected the end, got {other:?}"),
        }
    }
    ensure!(end == closed, "closing tag: {end}, expected: {closed}");
    Ok(())
}

/// A stream error and the end after it, whatever came before.
async fn stream_error(client: &mut Client, condition: &str) -> Result<()> {
    const NS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
    client.bound = false;
    loop {
        let node = match client.receive(PATIENCE).await? {
            Received::Node(node) => node,
            Received::Header(_) => continue,
            other => bail!("expected stream error {condition}, got {other:?}"),
        };
        if node.is("error", xml::STREAMS) {
            ensure!(node.child(condition, NS).is_some(), "got {node}");
            break;
        }
    }
    ended(client, true).await
}

/// A stanza error: the next stanza.
async fn error(run: &mut Run<'_>, who: &str, kind: Option<&str>, condition: &str) -> Result<()> {
    const NS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
    let node = loop {
        match run.client(who)?.receive(PATIENCE).await? {
            Received::Node(node) if node.ns == SM => {}
            Received::Node(node) => break node,
            other => bail!("expected error {condition}, got {other:?}"),
        }
    };
    ensure!(node.attr("type") == Some("error"), "not an error: {node}");
    let error = node
        .child("error", xml::CLIENT)
        .with_context(|| format!("got {node}"))?;
    ensure!(
        error.child(condition, NS).is_some(),
        "another error: {node}"
    );
    if kind.is_some() {
        ensure!(error.attr("type") == kind, "another type of error: {node}");
    }
    run.exchange.got.push(node.summary());
    Ok(())
}

/// The options of a login.
struct Login {
    presence: Option<String>,
    settle: bool,
    carbons: bool,
    roster: bool,
    management: Option<(bool, bool)>,
    direct: bool,
    until: String,
}

impl Login {
    fn parse(options: &[&str]) -> Result<Self> {
        let mut login = Self {
            presence: Some("<presence/>".to_owned()),
            settle: true,
            carbons: false,
            roster: false,
            management: None,
            direct: false,
            until: "online".to_owned(),
        };
        let joined = options.join(" ");
        for option in joined
            .split(',')
            .map(str::trim)
            .filter(|option| !option.is_empty())
        {
            let words: Vec<&str> = option.split_whitespace().collect();
            match words.as_slice() {
                ["no", "presence"] => login.presence = None,
                ["priority", n] => {
                    login.presence = Some(format!("<presence><priority>{n}</priority></presence>"));
                }
                ["watch"] => login.settle = false,
                ["carbons"] => login.carbons = true,
                ["roster"] => login.roster = true,
                ["direct", "tls"] => login.direct = true,
                // Stream management; without answers to `<r/>`; without resumption.
                ["sm"] => login.management = Some((true, true)),
                ["silent", "sm"] => login.management = Some((true, false)),
                ["plain", "sm"] => login.management = Some((false, true)),
                ["silent", "plain", "sm"] => login.management = Some((false, false)),
                ["until", level] => (*level).clone_into(&mut login.until),
                _ => bail!("no such option: {option}"),
            }
        }
        Ok(login)
    }
}

pub async fn log_in(run: &mut Run<'_>, who: &str, options: &[&str]) -> Result<()> {
    let login = Login::parse(options)?;
    let (account, resource) = who.split_once('/').context("no resource")?;
    let user = run.values[&format!("{account}.user")].clone();
    let mut client = Client::connect(run.server, &user, login.direct).await?;
    let outcome = enter(&mut client, run, resource, &login).await;
    run.values.insert(who.to_owned(), client.jid.clone());
    // A login that goes no further has none: the session before it is still to be resumed.
    if !client.management.id.is_empty() {
        let id = client.management.id.clone();
        run.values.insert(format!("{who}.sm"), id);
    }
    run.clients.insert(who.to_owned(), client);
    outcome?;
    if login.settle && login.until == "online" {
        run.settle().await
    } else {
        Ok(())
    }
}

async fn enter(client: &mut Client, run: &Run<'_>, resource: &str, login: &Login) -> Result<()> {
    if login.until == "connected" {
        return Ok(());
    }
    client.open().await?;
    if login.until == "opened" {
        return Ok(());
    }
    if !login.direct {
        client.start_tls(run.server).await?;
    }
    if login.until == "secured" {
        return Ok(());
    }
    client.authenticate(PASSWORD).await?;
    if login.until == "authenticated" {
        return Ok(());
    }
    client.bind(resource).await?;
    if let Some((resume, answers)) = login.management {
        client.manage(resume, answers).await?;
    }
    if login.carbons {
        client
            .ask("set", "carbons", "<enable xmlns='urn:xmpp:carbons:2'/>")
            .await?;
    }
    if login.roster {
        client
            .ask("get", "roster", "<query xmlns='jabber:iq:roster'/>")
            .await?;
    }
    if let Some(presence) = &login.presence {
        client.send(presence.as_bytes()).await?;
        let own = client.jid.clone();
        client
            .until(|node| node.name == "presence" && node.attr("from") == Some(&own))
            .await?;
    }
    Ok(())
}

/// Logs in with a new connection and takes over the session of `old` (XEP-0198 §5).
async fn resume(run: &mut Run<'_>, who: &str, old: &str, h: Option<u32>) -> Result<()> {
    let mut before = run.clients.remove(old).context("nothing to resume")?;
    before.cut();
    let (account, resource) = who.split_once('/').context("no resource")?;
    let user = run.values[&format!("{account}.user")].clone();
    let mut client = Client::connect(run.server, &user, false).await?;
    let login = Login::parse(&["until", "authenticated"])?;
    enter(&mut client, run, resource, &login).await?;
    let mut management = before.management.clone();
    management.h = h.unwrap_or(management.h);
    let (id, h) = (xml::escape(&management.id), management.h);
    client
        .send(format!("<resume xmlns='{SM}' previd='{id}' h='{h}'/>").as_bytes())
        .await?;
    let answer = client.until(|node| node.ns == SM).await?;
    client.jid = before.jid;
    client.queue.extend(before.queue);
    if answer.name == "resumed" {
        client.management = management;
        client.bound = true;
        let told = answer.attr("h").unwrap_or_default().to_owned();
        run.values.insert(format!("{who}.told"), told);
    }
    run.values.insert(who.to_owned(), client.jid.clone());
    run.clients.insert(who.to_owned(), client);
    ensure!(answer.name == "resumed", "not resumed: {answer}");
    Ok(())
}

/// Makes two accounts see each other's presence.
async fn friends(run: &mut Run<'_>, a: &str, b: &str) -> Result<()> {
    let mut pair = Vec::new();
    for name in [a, b] {
        let user = run.values[&format!("{name}.user")].clone();
        let mut client = Client::connect(run.server, &user, false).await?;
        let login = Login::parse(&["no", "presence"])?;
        enter(&mut client, run, "friends", &login).await?;
        pair.push(client);
    }
    let jids = [run.values[a].clone(), run.values[b].clone()];
    let turns = [
        (0, "subscribe"),
        (1, "subscribed"),
        (1, "subscribe"),
        (0, "subscribed"),
    ];
    for (at, kind) in turns {
        let to = &jids[1 - at];
        pair[at]
            .send(format!("<presence type='{kind}' to='{to}'/>").as_bytes())
            .await?;
        pair[at].barrier().await?;
        pair[1 - at].barrier().await?;
    }
    for mut client in pair {
        client.close().await?;
    }
    Ok(())
}

/// Runs an `eider` command against the server; it must succeed.
/// The metrics count something refused by this limit.
async fn refused(run: &mut Run<'_>, limit: &str) -> Result<()> {
    let metrics = run.server.metrics().await?;
    let line = format!("eider_refused_total{{limit=\"{limit}\"}} ");
    let counted = metrics.lines().any(|found| found.starts_with(&line));
    ensure!(counted, "nothing was refused by {limit}");
    Ok(())
}

async fn command(run: &mut Run<'_>, arguments: &[&str]) -> Result<()> {
    let mut filled = Vec::new();
    for argument in arguments {
        filled.push(String::from_utf8(run.fill(argument)?)?);
    }
    let input = format!("{PASSWORD}\n");
    run.server.command(&filled, &input).await
}
