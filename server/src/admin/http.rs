//! The internal HTTP listener: metrics, health, readiness.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use crate::lifecycle::{Lifecycle, Readiness};

#[derive(Clone)]
struct Shown {
    metrics: Arc<Metrics>,
    lifecycle: Lifecycle,
}

/// Serves `/metrics`, `/healthz` (the process answers) and `/readyz` (clients are served; 503 else) until
/// the token is cancelled.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    lifecycle: Lifecycle,
    stop: CancellationToken,
) {
    let router = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .with_state(Shown { metrics, lifecycle });
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await;
    if let Err(e) = served {
        tracing::error!("internal HTTP listener: {e}");
    }
}

async fn metrics_text(State(shown): State<Shown>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], shown.metrics.render())
}

async fn readiness(State(shown): State<Shown>) -> impl IntoResponse {
    let readiness = shown.lifecycle.readiness().borrow().clone();
    match readiness {
        Readiness::Ready => (StatusCode::OK, "ready\n".to_owned()),
        Readiness::Degraded(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("degraded: {reason}\n"),
        ),
        other => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{}\n", other.as_str()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn fetch(port: u16, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn answers_probes_and_shows_metrics() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (metrics, lifecycle) = (Arc::new(Metrics::new()), Lifecycle::new());
        let stop = lifecycle.hard_stop().clone();
        let served = tokio::spawn(serve(listener, metrics, lifecycle.clone(), stop));
        assert!(fetch(port, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(fetch(port, "/readyz").await.starts_with("HTTP/1.1 503"));
        lifecycle.set_readiness(Readiness::Ready);
        assert!(fetch(port, "/readyz").await.starts_with("HTTP/1.1 200"));
        let metrics = fetch(port, "/metrics").await;
        assert!(metrics.contains("openmetrics-text") && metrics.contains("eider_sessions 0"));
        assert!(fetch(port, "/").await.starts_with("HTTP/1.1 404"));
        lifecycle.stop();
        assert!(fetch(port, "/readyz").await.contains("draining"));
        lifecycle.stop_now();
        served.await.unwrap();
    }
}
