//! Debian's Prosody with a configuration of the tests' own.

use super::Server;
use anyhow::{Result, ensure};
use std::path::Path;
use std::process::Command;

const MODULES: &str = "'roster','saslauth','tls','disco','private','vcard_legacy','version','time','ping','pep',\
    'register','mam','smacks','carbons','blocklist','csi_simple','offline','lastactivity','vcard4','server_contact_info','admin_adhoc'";

/// Writes configuration, authority and certificate.
pub fn prepare(server: &Server) -> Result<()> {
    let dir = server.directory.display();
    std::fs::create_dir_all(server.directory.join("data/localhost/accounts"))?;
    openssl(&server.directory)?;
    let config = format!(
        "run_as_root = true\npidfile = '{dir}/pid'\ndata_path = '{dir}/data'\n\
         modules_enabled = {{ {MODULES} }}\nmodules_disabled = {{ 's2s' }}\n\
         admins = {{ 'smack-romeo@localhost' }}\nauthentication = 'internal_plain'\nstorage = 'internal'\n\
         allow_registration = false\nlimits = {{}}\ninterfaces = {{ '127.0.0.1' }}\n\
         c2s_ports = {{ {} }}\nc2s_direct_tls_ports = {{ {} }}\nc2s_require_encryption = true\n\
         log = {{ info = '*console' }}\nssl = {{ key = '{dir}/host.key'; certificate = '{dir}/host.crt' }}\n\
         VirtualHost '{}'\n",
        server.port, server.direct_port, server.domain
    );
    std::fs::write(server.directory.join("prosody.cfg.lua"), config)?;
    Ok(())
}

fn openssl(directory: &Path) -> Result<()> {
    let script = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
        -subj /CN=authority -keyout ca.key -out ca.pem && \
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
        -keyout host.key -out host.csr && \
        echo subjectAltName=DNS:localhost > san && \
        openssl x509 -req -in host.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
        -extfile san -out host.crt";
    let output = Command::new("sh")
        .arg("-c")
        .arg(script)
        .current_dir(directory)
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

pub fn command(server: &Server) -> Command {
    let mut command = Command::new("prosody");
    command
        .arg("-F")
        .arg("--config")
        .arg(server.directory.join("prosody.cfg.lua"));
    command
}

pub fn add_accounts(server: &Server, users: &[String], password: &str) -> Result<()> {
    for user in users {
        // Prosody's files are named by percent-encoding of all but letters and digits.
        let file = user.replace('-', "%2d");
        let path = format!("data/{}/accounts/{file}.dat", server.domain);
        let account = format!("return {{ ['password'] = '{password}'; }};\n");
        std::fs::write(server.directory.join(path), account)?;
    }
    Ok(())
}
