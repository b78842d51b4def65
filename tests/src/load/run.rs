//! A whole run: directory, certificate, databases, the chosen scenarios, the report.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::baseline::{echo, insert};
use super::certs::{self, Certificate};
use super::options::{Options, Part, RunOptions, Scenario};
use super::postgres::Postgres;
use super::report::Report;
use super::scenario::{self, Run};
use super::server::{Engine, HOST, Kind, Site, eider_binary};

/// Removed with everything in it at the end of the run.
struct Directory(PathBuf);

impl Directory {
    fn make() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("eider-load-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        // PostgreSQL runs as another user below it.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What the command line asks for.
pub async fn run(options: Options) -> Result<()> {
    match options.part {
        Some(Part::Echo { port, directory }) => match echo::serve(port, &directory).await? {},
        Some(Part::Insert {
            url,
            batch,
            seconds,
            rate,
        }) => insert::insert(&url, batch, seconds, rate).await,
        None => whole(&options.run).await,
    }
}

async fn whole(options: &RunOptions) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )?;
    let directory = Directory::make()?;
    let chosen = options.chosen();
    let on_postgres =
        options.engine.contains(&Engine::Postgres) && chosen.contains(&Scenario::Archive);
    let eider = options.kinds().contains(&Kind::Eider);
    let site = Site {
        certificate: Certificate::make(&directory.0, HOST)?,
        postgres: if on_postgres {
            Some(Postgres::start(&directory.0).await.context("PostgreSQL")?)
        } else {
            None
        },
        eider: if eider {
            eider_binary(options.eider.clone())?
        } else {
            PathBuf::new()
        },
        tls: certs::client_config()?,
        keys: Arc::default(),
        directory: directory.0.clone(),
    };
    let mut report = Report::default();
    let interrupted = tokio::select! {
        outcome = all(&site, options, &mut report) => { outcome?; false }
        _ = tokio::signal::ctrl_c() => true,
    };
    if options.json {
        println!("{}", report.json()?);
    } else {
        println!("{}", report.table());
    }
    anyhow::ensure!(!interrupted, "interrupted");
    Ok(())
}

async fn all(site: &Site, options: &RunOptions, report: &mut Report) -> Result<()> {
    for scenario in options.chosen() {
        let mut run = Run {
            site,
            options,
            report,
        };
        scenario::measure(&mut run, scenario).await?;
    }
    Ok(())
}
