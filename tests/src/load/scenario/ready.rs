//! Time until ready, resident memory without clients, size of the binary.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Run, failed};
use crate::load::report::Row;
use crate::load::server::{Kind, Plan, Server};

const STARTS: usize = 5;

/// Every chosen server.
pub async fn measure(run: &mut Run<'_>) -> Result<()> {
    for kind in run.options.kinds() {
        if let Err(error) = one(run, kind).await {
            failed("ready", kind.name(), &error);
        }
    }
    Ok(())
}

async fn one(run: &mut Run<'_>, kind: Kind) -> Result<()> {
    let mut server = Server::start(kind, run.site, &Plan::accounts(10)).await?;
    let first = server.ready.as_secs_f64() * 1e3;
    let mut times = Vec::new();
    for _ in 0..STARTS {
        server.restart().await?;
        times.push(server.ready.as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let row = Row::new("ready after start", kind.name()).value(times[times.len() / 2], "ms");
    run.report.add(row.note(format!(
        "median of {STARTS}; the first start, which makes its files: {first:.0} ms"
    )));
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let resident = server.resident_kib() as f64 / 1024.0;
    run.report
        .add(Row::new("resident without clients", kind.name()).value(resident, "MiB"));
    if kind == Kind::Eider {
        run.report
            .add(binary(&run.site.eider, &run.site.directory)?);
    }
    Ok(())
}

fn binary(path: &Path, directory: &Path) -> Result<Row> {
    let mebibytes =
        |path: &Path| anyhow::Ok(std::fs::metadata(path)?.len() as f64 / 1024.0 / 1024.0);
    let whole = mebibytes(path)?;
    let stripped = directory.join("stripped");
    let done = Command::new("strip")
        .arg("-o")
        .arg(&stripped)
        .arg(path)
        .status();
    let row = Row::new("binary", "eider");
    Ok(match done {
        Ok(status) if status.success() => row
            .value(mebibytes(&stripped)?, "MiB")
            .note(format!("stripped; with line tables {whole:.1} MiB")),
        _ => row.value(whole, "MiB").note("with line tables"),
    })
}
