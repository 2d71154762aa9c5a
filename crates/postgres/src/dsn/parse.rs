//! From the text of a URL to typed fields.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use super::{
    Address, ChannelBinding, DEFAULT_CONNECT_TIMEOUT, DEFAULT_KEEPALIVE, DEFAULT_USER_TIMEOUT, Dsn, DsnError, Host,
    Keepalive, Roots, SslMode, TargetSession,
    parameter::{Parameter, Values},
};
use crate::tls::TlsFiles;

const DEFAULT_PORT: u16 = 5432;

/// The server's own limit on the packet that carries the user, the database and the options.
const MAX_URL: usize = 64 * 1024;

const ENCODE: &str = "percent-encode special characters in user and password: `/` as %2F, `@` as %40, `:` as %3A, `?` as %3F, `#` as \
                      %23, `%` as %25";

fn wrong(problem: impl Into<String>, fix: impl Into<String>) -> DsnError {
    DsnError { problem: problem.into(), fix: Some(fix.into()) }
}

pub(super) fn parse(url: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Dsn, DsnError> {
    let mut values = split(url)?;
    values.fill(environment);
    interpret(&values, environment)
}

/// Splits a URL into parameters: `scheme://[user[:password]@][host[:port],…][/dbname][?name=value&…]`.
fn split(url: &str) -> Result<Values, DsnError> {
    let rest = url.strip_prefix("postgresql://").or_else(|| url.strip_prefix("postgres://")).ok_or_else(|| {
        wrong(
            "it does not begin with postgresql:// or postgres://",
            "write postgresql://user:password@host:5432/dbname",
        )
    })?;
    if url.len() > MAX_URL {
        return Err(wrong("it is too long", "leave parameters out"));
    }
    let mut values = Values::default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let hosts = match authority.rsplit_once('@') {
        Some((login, hosts)) => {
            if login.contains('@') {
                return Err(wrong("an `@` in user or password is not encoded", ENCODE));
            }
            split_login(login, &mut values)?;
            hosts
        }
        // A password with an unescaped `/` or `?` leaves its `@` behind, and its pieces everywhere.
        None if rest.contains('@') => {
            return Err(wrong("there is an `@` after the first `/` or `?`", ENCODE));
        }
        None => authority,
    };
    split_hosts(hosts, &mut values)?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if let Some(dbname) = path.strip_prefix('/') {
        if dbname.contains('/') {
            return Err(wrong("the database name holds a `/`", "write it as %2F"));
        }
        values.set(Parameter::Dbname, decode(dbname, "the database name")?);
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| wrong("a parameter has no `=`", "write parameters as ?name=value&name=value"))?;
        let parameter = Parameter::find(&decode(name, "the name of a parameter")?)?;
        values.set(parameter, decode(value, parameter.name())?);
    }
    Ok(values)
}

fn split_login(login: &str, values: &mut Values) -> Result<(), DsnError> {
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (login, None),
    };
    values.set(Parameter::User, decode(user, "the user")?);
    if let Some(password) = password {
        values.set(Parameter::Password, decode(password, "the password")?);
    }
    Ok(())
}

/// `host:port,host:port` into the two lists that the parameters `host` and `port` are.
fn split_hosts(list: &str, values: &mut Values) -> Result<(), DsnError> {
    if list.is_empty() {
        return Ok(());
    }
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for item in list.split(',') {
        let (host, port) = match item.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest
                    .split_once(']')
                    .ok_or_else(|| wrong("an IPv6 address has no closing `]`", "write [::1]:5432"))?;
                match after.strip_prefix(':') {
                    Some(port) => (host, port),
                    None if after.is_empty() => (host, ""),
                    None => return Err(wrong("there is text after an IPv6 address", "write [::1]:5432")),
                }
            }
            None => item.split_once(':').unwrap_or((item, "")),
        };
        if port.contains(':') {
            return Err(wrong("a host holds several `:`", format!("write an IPv6 address as [::1]:5432; {ENCODE}")));
        }
        hosts.push(decode(host, "the host")?);
        ports.push(decode(port, "the port")?);
    }
    if hosts.iter().any(|host| !host.is_empty()) {
        values.set(Parameter::Host, hosts.join(","));
    }
    if ports.iter().any(|port| !port.is_empty()) {
        values.set(Parameter::Port, ports.join(","));
    }
    Ok(())
}

/// Decodes `%XX`; `what` is named in the error, its content is not.
fn decode(text: &str, what: &str) -> Result<String, DsnError> {
    let bad = || wrong(format!("{what} has a `%` that is not followed by two hexadecimal digits"), ENCODE);
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>().ok_or_else(bad)?;
        let digit =
            |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or_else(bad);
        decoded.push(digit(digits[0])? << 4 | digit(digits[1])?);
        rest = after;
    }
    if decoded.contains(&0) {
        return Err(wrong(format!("{what} holds a zero byte"), "remove it"));
    }
    String::from_utf8(decoded).map_err(|_| wrong(format!("{what} is not UTF-8"), ENCODE))
}

fn interpret(values: &Values, environment: &dyn Fn(&str) -> Option<String>) -> Result<Dsn, DsnError> {
    let user = values
        .get(Parameter::User)
        .map(str::to_owned)
        .or_else(|| environment("USER").filter(|user| !user.is_empty()))
        .ok_or_else(|| wrong("it names no user", "write postgresql://user@host/dbname, or set PGUSER"))?;
    let ssl_mode = choice(values, Parameter::Sslmode, &SslMode::ALL, SslMode::name)?;
    let roots = values.get(Parameter::Sslrootcert).map(|path| match path {
        "system" => Roots::System,
        path => Roots::File(PathBuf::from(path)),
    });
    if roots == Some(Roots::System) && ssl_mode.is_some_and(|mode| mode != SslMode::VerifyFull) {
        return Err(wrong("sslrootcert=system needs sslmode=verify-full", "remove sslmode, or name a file"));
    }
    let certificate = values.get(Parameter::Sslcert).map(PathBuf::from);
    let key = values.get(Parameter::Sslkey).map(PathBuf::from);
    if certificate.is_some() != key.is_some() {
        return Err(wrong("of sslcert and sslkey only one is given", "give both"));
    }
    if !matches!(values.get(Parameter::Gssencmode), None | Some("disable" | "prefer")) {
        return Err(wrong("GSSAPI encryption is not supported", "remove gssencmode"));
    }
    if !values
        .get(Parameter::ClientEncoding)
        .is_none_or(|name| ["auto", "utf8", "utf-8", "unicode"].iter().any(|known| known.eq_ignore_ascii_case(name)))
    {
        return Err(wrong("client_encoding is always UTF8", "remove client_encoding"));
    }
    Ok(Dsn {
        password: values.get(Parameter::Password).map(Into::into),
        hosts: hosts(values)?,
        dbname: values.get(Parameter::Dbname).unwrap_or(&user).to_owned(),
        user,
        ssl_mode,
        tls: TlsFiles { roots, certificate, key },
        channel_binding: choice(values, Parameter::ChannelBinding, &ChannelBinding::ALL, ChannelBinding::name)?
            .unwrap_or(ChannelBinding::Prefer),
        connect_timeout: match seconds(values, Parameter::ConnectTimeout)? {
            // libpq waits for ever at 0; here every wait has an end.
            None | Some(0) => DEFAULT_CONNECT_TIMEOUT,
            Some(seconds) => Duration::from_secs(u64::from(seconds)),
        },
        options: values.get(Parameter::Options).map(str::to_owned),
        application_name: values
            .get(Parameter::ApplicationName)
            .or_else(|| values.get(Parameter::FallbackApplicationName))
            .map(str::to_owned),
        target: choice(values, Parameter::TargetSessionAttrs, &TargetSession::ALL, TargetSession::name)?
            .unwrap_or(TargetSession::Any),
        keepalive: keepalive(values)?,
        user_timeout: match number(values, Parameter::TcpUserTimeout, 86_400_000)? {
            None | Some(0) => DEFAULT_USER_TIMEOUT,
            Some(milliseconds) => Duration::from_millis(u64::from(milliseconds)),
        },
        passfile: values.get(Parameter::Passfile).map(PathBuf::from),
    })
}

/// Pairs up the lists of hosts, addresses and ports.
fn hosts(values: &Values) -> Result<Vec<Host>, DsnError> {
    let list = |parameter| values.get(parameter).map(|list| list.split(',').collect::<Vec<_>>()).unwrap_or_default();
    let (names, addresses, ports) = (list(Parameter::Host), list(Parameter::Hostaddr), list(Parameter::Port));
    let count = names.len().max(addresses.len()).max(1);
    let fits = |list: &[&str]| list.is_empty() || list.len() == count;
    if !fits(&names) || !fits(&addresses) || (ports.len() > 1 && ports.len() != count) {
        return Err(wrong(
            "the numbers of hosts, addresses and ports differ",
            "give each host its port: a:5432,b:5432",
        ));
    }
    (0..count)
        .map(|index| {
            let hostaddr = match addresses.get(index).copied().unwrap_or_default() {
                "" => None,
                text => Some(text.parse::<IpAddr>().map_err(|_| {
                    wrong("hostaddr is not an address", "write a numeric address; a name goes into host")
                })?),
            };
            let name = match (names.get(index).copied().unwrap_or_default(), hostaddr) {
                ("", Some(address)) => address.to_string(),
                ("", None) => "localhost".to_owned(),
                (name, _) => name.to_owned(),
            };
            let port =
                match ports.get(index).or(ports.first().filter(|_| ports.len() == 1)).copied().unwrap_or_default() {
                    "" => DEFAULT_PORT,
                    text => match text.parse::<u16>() {
                        Ok(port) if port != 0 => port,
                        _ => return Err(wrong("a port is not a number from 1 to 65535", ENCODE)),
                    },
                };
            let address = if name.starts_with('/') {
                Address::Unix(PathBuf::from(name))
            } else if name.parse::<IpAddr>().is_ok() || !name.bytes().any(|byte| b"/@: ".contains(&byte)) {
                Address::Name(name)
            } else {
                return Err(wrong("a host name holds a character that no host name has", ENCODE));
            };
            Ok(Host { address, hostaddr, port })
        })
        .collect()
}

fn keepalive(values: &Values) -> Result<Option<Keepalive>, DsnError> {
    if seconds(values, Parameter::Keepalives)? == Some(0) {
        return Ok(None);
    }
    let duration = |parameter, default: Option<Duration>| match seconds(values, parameter)? {
        None | Some(0) => Ok(default),
        Some(seconds) => Ok(Some(Duration::from_secs(u64::from(seconds)))),
    };
    Ok(Some(Keepalive {
        idle: duration(Parameter::KeepalivesIdle, None)?.unwrap_or(DEFAULT_KEEPALIVE.idle),
        interval: duration(Parameter::KeepalivesInterval, DEFAULT_KEEPALIVE.interval)?,
        retries: seconds(values, Parameter::KeepalivesCount)?.filter(|count| *count > 0).or(DEFAULT_KEEPALIVE.retries),
    }))
}

fn seconds(values: &Values, parameter: Parameter) -> Result<Option<u32>, DsnError> {
    number(values, parameter, 86_400)
}

fn number(values: &Values, parameter: Parameter, most: u32) -> Result<Option<u32>, DsnError> {
    let Some(text) = values.get(parameter) else { return Ok(None) };
    match text.trim().parse::<u32>() {
        Ok(number) if number <= most => Ok(Some(number)),
        _ => Err(wrong(format!("{} is not a number from 0 to {most}", parameter.name()), "write a whole number")),
    }
}

/// One of a fixed set of names.
fn choice<T: Copy>(
    values: &Values,
    parameter: Parameter,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<Option<T>, DsnError> {
    let Some(text) = values.get(parameter) else { return Ok(None) };
    match all.iter().find(|one| name(**one) == text) {
        Some(found) => Ok(Some(*found)),
        None => {
            let names = all.iter().map(|one| name(*one)).collect::<Vec<_>>().join(", ");
            Err(wrong(
                format!("{} is none of the values it can have", parameter.name()),
                format!("write one of {names}"),
            ))
        }
    }
}
