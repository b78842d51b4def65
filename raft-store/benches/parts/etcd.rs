//! etcd with three members on this machine and disk, and the same puts as ours get, by its own client.

use super::disk::Directory;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const MEMBERS: u16 = 3;
/// Of the first member's port; each has two.
const PORT: u16 = 23_790;

struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        for process in &mut self.0 {
            // It may have ended.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn start(directory: &Path) -> std::io::Result<Running> {
    let peer = |member: u16| format!("http://127.0.0.1:{}", PORT + 2 * member + 1);
    let client = |member: u16| format!("http://127.0.0.1:{}", PORT + 2 * member);
    let all: Vec<String> = (0..MEMBERS)
        .map(|member| format!("m{member}={}", peer(member)))
        .collect();
    let mut running = Running(Vec::new());
    for member in 0..MEMBERS {
        let (peer, client, name) = (peer(member), client(member), format!("m{member}"));
        let data = directory.join(format!("etcd{member}"));
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(data);
        command.args([
            "--name",
            &name,
            "--initial-cluster",
            &all.join(","),
            "--log-level",
            "error",
        ]);
        command.args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ]);
        command.args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ]);
        running.0.push(
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?,
        );
    }
    Ok(running)
}

/// Needs etcd (Debian: etcd-server), and Go for its client.
pub fn run(within: &Path, time: Duration) {
    let directory = Directory::new(within);
    std::fs::create_dir_all(&directory.0).expect("a directory can be made");
    let running = match start(&directory.0) {
        Ok(running) => running,
        Err(error) => return println!("\nno etcd beside it: {error}; apt-get install etcd-server"),
    };
    println!("\netcd, the same puts");
    let client = directory.0.join("client");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/parts/etcd");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&client)
        .arg(".")
        .current_dir(source)
        .status();
    if !built.is_ok_and(|built| built.success()) {
        return println!("its client could not be built: it needs Go");
    }
    let ports: Vec<String> = (0..MEMBERS)
        .map(|member| format!("127.0.0.1:{}", PORT + 2 * member))
        .collect();
    for in_flight in ["1", "1024"] {
        let seconds = time.as_secs().to_string();
        let run = Command::new(&client)
            .args([in_flight, &seconds, &ports.join(",")])
            .status();
        if !run.is_ok_and(|run| run.success()) {
            println!("its client failed");
        }
    }
    drop(running);
}
