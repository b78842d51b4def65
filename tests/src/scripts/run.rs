//! Running protocol scripts: who is connected, what is known, and what became of each step.

use super::client::{Client, PATIENCE, Received, SM};
use super::parse::{Script, Step};
use super::pattern::{self, Values};
use super::{steps, xml};
use crate::harness::Server;
use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Every account's password.
pub const PASSWORD: &str = "pencil";

/// What a script's clients sent and what of the answers was looked at, in short: for tables.
#[derive(Debug, Default)]
pub struct Exchange {
    pub sent: Vec<String>,
    pub got: Vec<String>,
}

/// A script under way.
pub struct Run<'a> {
    pub server: &'a Server,
    pub values: Values,
    pub clients: BTreeMap<String, Client>,
    pub exchange: Exchange,
}

/// Runs a script against a server; `number` keeps its accounts apart from those of other scripts.
pub async fn run(script: &Script, server: &Server, number: usize) -> Result<()> {
    observe(script, server, number, &mut Exchange::default()).await
}

/// The same, with what was sent and what came back, as far as it came.
pub async fn observe(
    script: &Script,
    server: &Server,
    number: usize,
    exchange: &mut Exchange,
) -> Result<()> {
    let mut values = Values::new();
    values.insert("host".to_owned(), server.domain.clone());
    let mut names = Vec::new();
    for account in &script.accounts {
        let user = format!("{account}-{number}");
        values.insert(account.clone(), format!("{user}@{}", server.domain));
        values.insert(format!("{account}.user"), user.clone());
        names.push(user);
    }
    server.add_accounts(&names, PASSWORD).await?;
    let clients = BTreeMap::new();
    let mut run = Run {
        server,
        values,
        clients,
        exchange: Exchange::default(),
    };
    let outcome = steps_of(script, &mut run).await;
    *exchange = run.exchange;
    outcome
}

async fn steps_of(script: &Script, run: &mut Run<'_>) -> Result<()> {
    for step in &script.steps {
        if let Err(why) = steps::step(run, step).await {
            return Err(anyhow!(
                "line {}: {}: {why:#}{}",
                step.line,
                step.words.join(" "),
                run.story()
            ));
        }
    }
    run.nothing_left()
        .await
        .map_err(|why| anyhow!("at the end: {why:#}{}", run.story()))
}

impl Run<'_> {
    pub fn client(&mut self, name: &str) -> Result<&mut Client> {
        self.clients
            .get_mut(name)
            .with_context(|| format!("{name} is not connected"))
    }

    /// Everyone who is logged in has got what was on its way.
    pub async fn barrier(&mut self) -> Result<()> {
        // What one client's stanza causes may itself cause something: hence twice.
        for _ in 0..2 {
            for (name, client) in &mut self.clients {
                client
                    .barrier()
                    .await
                    .with_context(|| format!("{name} at the barrier"))?;
            }
        }
        Ok(())
    }

    /// Forgets all that came and was not asked for.
    pub async fn settle(&mut self) -> Result<()> {
        self.barrier().await?;
        for client in self.clients.values_mut() {
            client.queue.clear();
        }
        Ok(())
    }

    async fn nothing_left(&mut self) -> Result<()> {
        self.barrier().await?;
        for (name, client) in &self.clients {
            if let Some(node) = client.queue.iter().find(|node| node.ns != SM) {
                bail!("{name} got more than the script says: {node}");
            }
        }
        Ok(())
    }

    /// Compares the next stanza; stream management's own elements pass where none is expected.
    pub async fn expect(&mut self, name: &str, expected: &xml::Node, skip: bool) -> Result<()> {
        let mut last = String::new();
        loop {
            let client = self.clients.get_mut(name).context("not connected")?;
            let node = match client.receive(PATIENCE).await? {
                Received::Node(node) => node,
                other => bail!("expected {expected}, got {other:?}{last}"),
            };
            if node.ns == SM && expected.ns != SM {
                continue;
            }
            match pattern::matches(expected, &node, &mut self.values) {
                Ok(()) => {
                    self.exchange.got.push(node.summary());
                    return Ok(());
                }
                Err(why) if skip => last = format!("\n  {why}\n  {node}"),
                Err(why) => bail!("{why}\n  expected {expected}\n  got      {node}"),
            }
        }
    }

    /// Compares the next stanzas in whatever order they come.
    pub async fn expect_set(&mut self, name: &str, mut wanted: Vec<xml::Node>) -> Result<()> {
        while !wanted.is_empty() {
            let client = self.clients.get_mut(name).context("not connected")?;
            let node = match client.receive(PATIENCE).await? {
                Received::Node(node) if node.ns == SM => continue,
                Received::Node(node) => node,
                other => bail!("expected {}, got {other:?}", wanted[0]),
            };
            let mut reasons = String::new();
            let mut found = None;
            for (at, expected) in wanted.iter().enumerate() {
                match pattern::matches(expected, &node, &mut self.values) {
                    Ok(()) => {
                        found = Some(at);
                        break;
                    }
                    Err(why) => write!(reasons, "\n  {why}")?,
                }
            }
            let at = found.with_context(|| format!("none fits{reasons}\n  got {node}"))?;
            self.exchange.got.push(node.summary());
            wanted.remove(at);
        }
        Ok(())
    }

    /// Fills placeholders in a block that is to be sent.
    pub fn fill(&self, body: &str) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut rest = body;
        while let Some((before, name, after)) = pattern::placeholder(rest) {
            out.extend_from_slice(before.as_bytes());
            match self.values.get(name) {
                Some(value) => out.extend_from_slice(xml::escape(value).as_bytes()),
                None => out.extend(self.computed(name)?),
            }
            rest = after;
        }
        out.extend_from_slice(rest.as_bytes());
        Ok(out)
    }

    /// `{repeat N text}`, `{hex 00ff}`, `{base64 text}` (`[name]` in it is a value), `{plain account}`, `{open}` and `{close}` for the
    /// braces themselves.
    fn computed(&self, name: &str) -> Result<Vec<u8>> {
        let (function, argument) = name.split_once(' ').unwrap_or((name, ""));
        match function {
            "repeat" => {
                let (times, text) = argument.split_once(' ').context("repeat what")?;
                Ok(text.repeat(times.parse()?).into_bytes())
            }
            "hex" => {
                ensure!(argument.len().is_multiple_of(2), "odd number of digits");
                let digits = (0..argument.len()).step_by(2);
                digits
                    .map(|at| Ok(u8::from_str_radix(&argument[at..at + 2], 16)?))
                    .collect()
            }
            "open" => Ok(b"{".to_vec()),
            "close" => Ok(b"}".to_vec()),
            "base64" => {
                let mut text = argument.replace("\\0", "\0");
                for (key, value) in &self.values {
                    text = text.replace(&format!("[{key}]"), value);
                }
                Ok(BASE64.encode(text).into_bytes())
            }
            "plain" => {
                let key = format!("{argument}.user");
                let user = self.values.get(&key).context("no such account")?;
                Ok(BASE64.encode(format!("\0{user}\0{PASSWORD}")).into_bytes())
            }
            _ => bail!("unknown placeholder {{{name}}}"),
        }
    }

    /// What each client saw, for a failure's message.
    fn story(&self) -> String {
        let mut story = String::new();
        for (name, client) in &self.clients {
            let _ = write!(story, "\n    -- {name}");
            let told = client
                .log
                .iter()
                .filter(|line| !line.contains(" id='barrier'"));
            let told: Vec<&String> = told.collect();
            for line in &told[told.len().saturating_sub(12)..] {
                let _ = write!(story, "\n    {line}");
            }
        }
        story
    }

    pub fn block(&self, step: &Step) -> Result<Vec<xml::Node>> {
        let nodes = xml::parse_all(&step.body)?;
        ensure!(!nodes.is_empty(), "nothing below this step");
        Ok(nodes)
    }
}
