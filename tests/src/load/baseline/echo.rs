//! A bare echo server on tokio-rustls in a process of its own: what a connection costs at least.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::load::certs;
use crate::load::measure::Recorder;
use crate::load::process::{self, Guard};
use crate::load::server::{HOST, Site, free_port};

/// As long as a chat message of this program with its tags.
const MESSAGE_BYTES: usize = 150;

/// The part: serves until it is ended.
pub async fn serve(port: u16, directory: &Path) -> Result<Infallible> {
    let certificate = CertificateDer::from_pem_file(directory.join("cert.pem"))?;
    let key = PrivateKeyDer::from_pem_file(directory.join("key.pem"))?;
    let acceptor = TlsAcceptor::from(certs::server_config(certificate, key)?);
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))?;
    let listener: TcpListener = socket.listen(4096)?;
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let stream = Box::new(acceptor.accept(tcp).await?);
            echo(stream).await
        });
    }
}

async fn echo(mut stream: Box<server::TlsStream<TcpStream>>) -> Result<()> {
    while poll_fn(|context| poll_echo(&mut stream, context)).await? {
        stream.flush().await?;
    }
    Ok(())
}

/// Reads once and writes that back; false at the end. The buffer is on the stack: an idle connection
/// holds none.
fn poll_echo(
    stream: &mut server::TlsStream<TcpStream>,
    context: &mut TaskContext<'_>,
) -> Poll<Result<bool>> {
    let mut scratch = [0; 2048];
    let mut buffer = ReadBuf::new(&mut scratch);
    ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
    if buffer.filled().is_empty() {
        return Poll::Ready(Ok(false));
    }
    let written = ready!(Pin::new(stream).poll_write(context, buffer.filled()))?;
    if written < buffer.filled().len() {
        return Poll::Ready(Err(anyhow::anyhow!("short write")));
    }
    Poll::Ready(Ok(true))
}

/// The echo server's process.
pub struct Echo {
    guard: Guard,
    address: SocketAddr,
}

impl Echo {
    /// Starts it and waits until it listens.
    pub async fn start(site: &Site) -> Result<Self> {
        let port = free_port()?;
        let directory = site
            .directory
            .to_str()
            .context("the run's directory is not UTF-8")?;
        let guard = Guard::spawn(
            "echo",
            &mut super::part(&["echo", &port.to_string(), directory])?,
        )?;
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let begun = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            ensure!(
                begun.elapsed() < Duration::from_secs(10),
                "the echo server does not listen"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Self { guard, address })
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        process::resident_kib(self.guard.pid())
    }

    /// CPU time so far.
    pub fn cpu(&self) -> Duration {
        process::cpu(self.guard.pid())
    }
}

/// A client of the echo server.
pub struct EchoClient(client::TlsStream<TcpStream>);

impl EchoClient {
    /// Connects.
    pub async fn connect(echo: &Echo, site: &Site, index: u32) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(crate::load::connection::source(index))?;
        let tcp = socket.connect(echo.address).await?;
        tcp.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::clone(&site.tls));
        Ok(Self(
            connector.connect(ServerName::try_from(HOST)?, tcp).await?,
        ))
    }

    /// Sends a message's worth of bytes and waits for them.
    pub async fn round_trip(&mut self) -> Result<()> {
        let mut buffer = [b'x'; MESSAGE_BYTES];
        self.0.write_all(&buffer).await?;
        self.0.flush().await?;
        self.0.read_exact(&mut buffer).await?;
        Ok(())
    }

    /// Round trips for ever.
    pub async fn round_trips(mut self, recorder: Recorder) -> Result<Infallible> {
        loop {
            let begun = Instant::now();
            self.round_trip().await?;
            recorder.done(u64::try_from(begun.elapsed().as_nanos())?);
        }
    }
}
