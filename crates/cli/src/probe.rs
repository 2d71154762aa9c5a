//! `pgstream-aws health`: the health check of a container that has no shell and no curl.

use std::time::Duration;

use pgstream_config::Needs;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    arguments::{self, Common},
    configure,
    failure::Failure,
    output,
};

/// An endpoint that says nothing for so long is not well.
const PATIENCE: Duration = Duration::from_secs(4);

/// More than any answer of ours has.
const ANSWER_BYTES: u64 = 16 << 10;

/// Asks the configured endpoint. Returns whether it said that all is well.
pub async fn run(arguments: &arguments::Health, common: &Common) -> Result<bool, Failure> {
    let loaded = configure::configuration(common, &common.overrides(), Needs::Source)?;
    let listening = loaded.pipeline.instrumentation.health.as_deref().ok_or(Failure::NoHealthEndpoint)?;
    let address = reachable(listening);
    let path = if arguments.ready { "/ready" } else { "/health" };
    let answer = timeout(PATIENCE, get(&address, path)).await.unwrap_or_else(|elapsed| Err(elapsed.into()));
    let answer = answer.map_err(|source| Failure::Local {
        doing: format!("asking {address}{path}"),
        help: "is `pgstream-aws run` running here, with the same configuration?",
        source,
    })?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim());
    output::line(body);
    Ok(answer.split(' ').nth(1) == Some("200"))
}

/// Where to reach what listens on every address.
fn reachable(listening: &str) -> String {
    match listening.rsplit_once(':') {
        Some(("" | "0.0.0.0" | "[::]", port)) => format!("localhost:{port}"),
        _ => listening.to_owned(),
    }
}

/// The whole answer, head and body.
async fn get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_means_all_is_asked_on_this_machine() {
        for (listening, asked) in [
            ("0.0.0.0:9910", "localhost:9910"),
            ("[::]:9910", "localhost:9910"),
            (":9910", "localhost:9910"),
            ("127.0.0.1:9910", "127.0.0.1:9910"),
            ("[::1]:9910", "[::1]:9910"),
        ] {
            assert_eq!(reachable(listening), asked);
        }
    }
}
