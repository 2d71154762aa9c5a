//! The Query API: a form in, XML out.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::{Timestamp, fmt::rfc2822};
use tokio::net::TcpListener;

use crate::{error::Refusal, faults::Fault, request::Call, world::World, xml::Xml};

pub(crate) async fn serve(listener: TcpListener, world: Arc<World>) {
    let app = Router::new().fallback(answer).with_state(world);
    // Ends only with the task.
    drop(axum::serve(listener, app).await);
}

async fn answer(State(world): State<Arc<World>>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let call = Call::parse(&String::from_utf8_lossy(&body), header(header::AUTHORIZATION));
    let request_id = world.note(call.clone());
    let fault = world.faults.of(&call);
    if fault == Some(Fault::HangBefore) {
        return std::future::pending().await;
    }
    let refused = fault.and_then(|fault| fault.refusal(&call));
    let result = match refused {
        Some(refusal) => Err(refusal),
        None if call.access_key.is_empty() => {
            Err(Refusal::new(403, "MissingAuthenticationToken", "Request is missing Authentication Token"))
        }
        None => world.allowed(&call).and_then(|()| world.act(&call)),
    };
    if fault == Some(Fault::HangAfter) {
        return std::future::pending().await;
    }
    let (status, xml) = match result {
        Ok(inner) => (StatusCode::OK, wrap(&call.action, inner, &request_id)),
        Err(refusal) => {
            let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
            (status, refusal.xml(&request_id))
        }
    };
    let body = match fault {
        Some(Fault::Truncate) => truncated(&xml),
        Some(Fault::CutDocument) => Body::from(xml[..xml.len() / 2].to_owned()),
        _ => Body::from(xml),
    };
    let headers = [(header::CONTENT_TYPE, "text/xml".to_owned()), (header::DATE, date(fault))];
    (status, headers, body).into_response()
}

/// What the clock of AWS says.
fn date(fault: Option<Fault>) -> String {
    let now = SystemTime::now() + fault.map_or(Duration::ZERO, Fault::ahead);
    let now = Timestamp::try_from(now).unwrap_or(Timestamp::MAX);
    rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now).unwrap_or_default()
}

/// `<XResponse><XResult>…</XResult><ResponseMetadata>…`.
fn wrap(action: &str, inner: Xml, request_id: &str) -> String {
    let (inner, mut metadata) = (inner.finish(), Xml::default());
    metadata.within("ResponseMetadata", |xml| xml.text("RequestId", request_id));
    let metadata = metadata.finish();
    format!(
        "<{action}Response xmlns=\"http://rds.amazonaws.com/doc/2014-10-31/\"><{action}Result>{inner}</{action}Result>{metadata}</{action}Response>"
    )
}

/// Half of the answer, and then the end of the connection.
fn truncated(xml: &str) -> Body {
    let half = Bytes::copy_from_slice(&xml.as_bytes()[..xml.len() / 2]);
    let broken = Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    let pieces: [Result<Bytes, std::io::Error>; 2] = [Ok(half), broken];
    Body::from_stream(Pieces(pieces.into_iter()))
}

struct Pieces<I>(I);

impl<I: Iterator<Item = Result<Bytes, std::io::Error>> + Unpin> futures::Stream for Pieces<I> {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.next())
    }
}
