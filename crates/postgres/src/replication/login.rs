//! Start-up and authentication of a replication connection.

use bytes::{Buf as _, Bytes};
use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{self, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256},
    },
    message::frontend,
};
use secrecy::ExposeSecret as _;

use crate::{Error, dsn::ChannelBinding, error::ServerError, password::Login, wire::Wire};

/// A server may ask for as many rounds of hashing as it likes; more than this is an attack, the default is 4096.
const MAX_SCRAM_ITERATIONS: u32 = 1_000_000;

/// Sends the start-up packet and authenticates; afterwards the server is ready for a command.
pub(super) async fn log_in(
    wire: &mut Wire,
    login: &Login,
    dbname: &str,
    application_name: &str,
    options: &str,
    binding: ChannelBinding,
) -> Result<(), Error> {
    let parameters = [
        ("user", login.user.as_str()),
        ("database", dbname),
        ("replication", "database"),
        ("client_encoding", "UTF8"),
        ("application_name", application_name),
        ("options", options),
    ];
    wire.queue(|out| frontend::startup_message(parameters, out))?;
    wire.flush().await?;
    authenticate(wire, login, binding).await?;
    loop {
        let packet = wire.packet().await?;
        match packet.tag {
            b'Z' => return Ok(()),
            // ParameterStatus, BackendKeyData, NegotiateProtocolVersion
            b'S' | b'K' | b'v' => {}
            b'N' => log_notice(wire, &packet.body),
            b'E' => return Err(refused(wire, &packet.body)),
            tag => return Err(unexpected(wire, tag)),
        }
    }
}

async fn authenticate(wire: &mut Wire, login: &Login, binding: ChannelBinding) -> Result<(), Error> {
    let (mut bound, mut answered) = (false, false);
    loop {
        let (kind, mut body) = request(wire).await?;
        // Whoever was answered once lets us in or not; asking on would draw the password out in another form.
        if kind != 0 && std::mem::replace(&mut answered, true) {
            return Err(problem(wire, "the server asks for the password again"));
        }
        match kind {
            0 if binding == ChannelBinding::Require && !bound => {
                return Err(problem(
                    wire,
                    "the server did not use channel binding, which channel_binding=require asks for",
                ));
            }
            0 => return Ok(()),
            3 | 5 if binding == ChannelBinding::Require => {
                return Err(problem(
                    wire,
                    "the server asks for the password itself, which channel_binding=require forbids",
                ));
            }
            3 => {
                let password = password(wire, login)?;
                wire.queue(|out| frontend::password_message(password.as_bytes(), out))?;
                wire.flush().await?;
            }
            5 => {
                let salt = body.split_to(body.len().min(4));
                let salt = salt.as_ref().try_into().map_err(|_| wire.protocol_error("a cut authentication request"))?;
                let hash = md5_hash(login.user.as_bytes(), password(wire, login)?.as_bytes(), salt);
                wire.queue(|out| frontend::password_message(hash.as_bytes(), out))?;
                wire.flush().await?;
            }
            10 => bound = scram(wire, login, &body, binding).await?,
            7 | 9 => return Err(problem(wire, "the server asks for GSSAPI or SSPI, which is not supported")),
            other => return Err(problem(wire, format!("the server asks for method {other}, which is not supported"))),
        }
    }
}

/// One exchange of SCRAM-SHA-256; whether it was bound to the TLS channel.
async fn scram(wire: &mut Wire, login: &Login, offered: &[u8], binding: ChannelBinding) -> Result<bool, Error> {
    let offers = |wanted: &str| offered.split(|byte| *byte == 0).any(|name| name == wanted.as_bytes());
    let end_point = wire.end_point().filter(|_| binding != ChannelBinding::Disable);
    let (mechanism, channel) = match end_point {
        Some(hash) if offers(SCRAM_SHA_256_PLUS) => {
            (SCRAM_SHA_256_PLUS, sasl::ChannelBinding::tls_server_end_point(hash))
        }
        _ if !offers(SCRAM_SHA_256) => {
            return Err(problem(wire, "the server offers no SASL mechanism that is supported"));
        }
        // Says that we could have bound: a server that can, too, sees that somebody took the offer out.
        Some(_) => (SCRAM_SHA_256, sasl::ChannelBinding::unrequested()),
        None => (SCRAM_SHA_256, sasl::ChannelBinding::unsupported()),
    };
    let bound = mechanism == SCRAM_SHA_256_PLUS;
    if binding == ChannelBinding::Require && !bound {
        return Err(problem(wire, "the server offers no channel binding, which channel_binding=require asks for"));
    }
    let mut scram = ScramSha256::new(password(wire, login)?.as_bytes(), channel);
    wire.queue(|out| frontend::sasl_initial_response(mechanism, scram.message(), out))?;
    wire.flush().await?;

    let challenge = expect(wire, 11).await?;
    if iterations(&challenge).is_none_or(|count| count > MAX_SCRAM_ITERATIONS) {
        return Err(problem(wire, "the server asks for an unreasonable number of SCRAM iterations"));
    }
    scram.update(&challenge).map_err(|error| problem(wire, error.to_string()))?;
    wire.queue(|out| frontend::sasl_response(scram.message(), out))?;
    wire.flush().await?;

    let proof = expect(wire, 12).await?;
    scram.finish(&proof).map_err(|_| problem(wire, "the server did not prove that it knows the password"))?;
    Ok(bound)
}

/// `i=` of a server-first message.
fn iterations(challenge: &[u8]) -> Option<u32> {
    std::str::from_utf8(challenge).ok()?.split(',').find_map(|part| part.strip_prefix("i=")?.parse().ok())
}

/// The next authentication request: its kind, and what comes with it.
async fn request(wire: &mut Wire) -> Result<(u32, Bytes), Error> {
    loop {
        let mut packet = wire.packet().await?;
        match packet.tag {
            b'R' => {
                let kind =
                    packet.body.try_get_u32().map_err(|_| wire.protocol_error("a cut authentication request"))?;
                return Ok((kind, packet.body));
            }
            b'N' => log_notice(wire, &packet.body),
            b'v' => {}
            b'E' => return Err(refused(wire, &packet.body)),
            tag => return Err(unexpected(wire, tag)),
        }
    }
}

async fn expect(wire: &mut Wire, wanted: u32) -> Result<Bytes, Error> {
    match request(wire).await? {
        (kind, body) if kind == wanted => Ok(body),
        (kind, _) => Err(wire.protocol_error(format!("authentication step {kind} where {wanted} was due"))),
    }
}

fn password<'a>(wire: &Wire, login: &'a Login) -> Result<&'a str, Error> {
    let given =
        login.password.as_ref().ok_or_else(|| problem(wire, "the server asks for a password and none is known"))?;
    Ok(given.expose_secret())
}

fn problem(wire: &Wire, problem: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::Authentication { server: wire.server().to_owned(), problem: problem.into() }
}

fn refused(wire: &Wire, body: &[u8]) -> Error {
    Error::Refused {
        server: wire.server().to_owned(),
        doing: "opening a replication connection".into(),
        source: Box::new(ServerError::parse(body)),
    }
}

pub(super) fn unexpected(wire: &Wire, tag: u8) -> Error {
    wire.protocol_error(format!("packet {tag:#04x} is not expected here"))
}

pub(super) fn log_notice(wire: &Wire, body: &[u8]) {
    tracing::debug!(server = wire.server(), notice = %ServerError::parse(body), "the server says");
}
