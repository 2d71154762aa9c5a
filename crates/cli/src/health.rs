//! `/health`, `/ready`, `/status` and Prometheus metrics over HTTP.

use std::{fmt::Write as _, sync::Arc};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use pgstream_config::pipeline::Instrumentation;
use pgstream_engine::stream::status::{Monitor, Phase, Reading};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// Serves what is configured until cancelled; `None` when nothing is.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(
    settings: &Instrumentation,
    monitor: Arc<Monitor>,
    cancel: &CancellationToken,
) -> Result<Option<JoinHandle<()>>, Failure> {
    let Some(address) = &settings.health else { return Ok(None) };
    let listener = TcpListener::bind(address).await.map_err(|source| Failure::Local {
        doing: format!("listening on {address}"),
        help: "choose another instrumentation.health.address, or stop what listens there",
        source,
    })?;
    let mut routes = Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/status", get(|State(monitor): State<Arc<Monitor>>| async move { Json(monitor.read()) }));
    if let Some(prometheus) = &settings.prometheus {
        routes = routes.route(
            &prometheus.path,
            get(|State(monitor): State<Arc<Monitor>>| async move { metrics(&monitor.read()) }),
        );
    }
    tracing::info!(address, "serving /health, /ready and /status");
    let cancelled = cancel.clone().cancelled_owned();
    Ok(Some(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes.with_state(monitor)).with_graceful_shutdown(cancelled).await {
            tracing::error!(%error, "the health endpoint ended");
        }
    })))
}

/// The process is alive: restarting it would not help.
async fn health(State(monitor): State<Arc<Monitor>>) -> (StatusCode, &'static str) {
    match monitor.read().phase {
        Phase::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "stopped\n"),
        Phase::Starting | Phase::Streaming | Phase::Reconnecting => (StatusCode::OK, "ok\n"),
    }
}

/// The stream is running.
async fn ready(State(monitor): State<Arc<Monitor>>) -> (StatusCode, &'static str) {
    match monitor.read().phase {
        Phase::Streaming => (StatusCode::OK, "streaming\n"),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Reconnecting => (StatusCode::SERVICE_UNAVAILABLE, "reconnecting\n"),
        Phase::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "stopped\n"),
    }
}

/// The text format of Prometheus.
fn metrics(reading: &Reading) -> String {
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, value: f64| {
        // Writing to a string cannot fail.
        let _ = write!(text, "# HELP pgstream_{name} {help}\n# TYPE pgstream_{name} {kind}\npgstream_{name} {value}\n");
    };
    metric("up", "gauge", "1 while changes are followed.", f64::from(u8::from(reading.phase == Phase::Streaming)));
    metric("lag_bytes", "gauge", "WAL between source and target.", reading.lag_bytes as f64);
    metric("lag_seconds", "gauge", "Age of the last applied commit while behind.", reading.lag_seconds);
    metric("received_bytes_total", "counter", "Bytes received from the source.", reading.received_bytes as f64);
    metric("transactions_total", "counter", "Source transactions applied.", reading.transactions as f64);
    metric("inserts_total", "counter", "Rows inserted.", reading.inserts as f64);
    metric("updates_total", "counter", "Rows updated.", reading.updates as f64);
    metric("deletes_total", "counter", "Rows deleted.", reading.deletes as f64);
    metric("truncates_total", "counter", "Tables truncated.", reading.truncates as f64);
    metric("batches_total", "counter", "Target transactions.", reading.batches as f64);
    metric("fallbacks_total", "counter", "Batches applied row by row.", reading.fallbacks as f64);
    metric("reconnects_total", "counter", "Reconnections after transient errors.", reading.reconnects as f64);
    text
}
