use std::{net::IpAddr, path::PathBuf, time::Duration};

use proptest::prelude::*;
use secrecy::ExposeSecret as _;

use super::{Address, ChannelBinding, Dsn, DsnError, Keepalive, Roots, SslMode, TargetSession, parse::parse};

fn no_environment(_: &str) -> Option<String> {
    None
}

fn read(url: &str) -> Result<Dsn, DsnError> {
    parse(url, &no_environment)
}

fn password(dsn: &Dsn) -> Option<&str> {
    dsn.password.as_ref().map(|password| password.expose_secret())
}

#[test]
fn a_full_url_is_read_into_its_fields() {
    let dsn = read(
        "postgresql://al%40ice:p%2F%3A%40%25%20w@db.example.com:6432/my%2Fdb?sslmode=verify-ca&sslrootcert=/etc/ca.pem\
         &channel_binding=require&connect_timeout=3&options=-c%20work_mem%3D64MB&application_name=x\
         &target_session_attrs=read-write&keepalives_idle=5&keepalives_interval=2&keepalives_count=7&passfile=/p\
         &tcp_user_timeout=1500&sslcert=/c.pem&sslkey=/k.pem&gssencmode=prefer&client_encoding=utf8",
    )
    .unwrap();
    assert_eq!(dsn.user(), "al@ice");
    assert_eq!(password(&dsn), Some("p/:@% w"));
    assert_eq!(dsn.host_display(), "db.example.com:6432");
    assert_eq!(dsn.dbname(), "my/db");
    assert_eq!(dsn.ssl_mode(&dsn.hosts[0]), SslMode::VerifyCa);
    assert_eq!(dsn.tls.roots, Some(Roots::File("/etc/ca.pem".into())));
    assert_eq!(dsn.tls.certificate, Some("/c.pem".into()));
    assert_eq!(dsn.channel_binding, ChannelBinding::Require);
    assert_eq!(dsn.connect_timeout, Duration::from_secs(3));
    assert_eq!(dsn.options.as_deref(), Some("-c work_mem=64MB"));
    assert_eq!(dsn.application_name.as_deref(), Some("x"));
    assert_eq!(dsn.target, TargetSession::ReadWrite);
    let seconds = Duration::from_secs;
    assert_eq!(dsn.keepalive, Some(Keepalive { idle: seconds(5), interval: Some(seconds(2)), retries: Some(7) }));
    assert_eq!(dsn.user_timeout, Duration::from_millis(1500));
    assert_eq!(dsn.passfile, Some("/p".into()));
    assert_eq!(dsn.with_dbname("other").to_string(), "db.example.com:6432/other");
}

#[test]
fn hosts_take_every_form_that_libpq_knows() {
    for (url, shown) in [
        ("postgres://u@h/d", "h:5432"),
        ("postgres://u@/d", "localhost:5432"),
        ("postgres://u@h:/d", "h:5432"),
        ("postgres://u@[::1]/d", "[::1]:5432"),
        ("postgres://u@[2001:db8::7]:99/d", "[2001:db8::7]:99"),
        ("postgres://u@a,b:2,c:3/d", "a:5432,b:2,c:3"),
        ("postgres://u@%2Fvar%2Frun%2Fpg:7/d", "/var/run/pg:7"),
        ("postgres://u@/d?host=/tmp&port=7", "/tmp:7"),
        ("postgres://u@/d?host=a,b&port=7", "a:7,b:7"),
        ("postgres://u@h/d?hostaddr=10.0.0.1", "h:5432"),
        ("postgres://u@/d?hostaddr=10.0.0.1", "10.0.0.1:5432"),
        ("postgres://h/d?user=u", "h:5432"),
    ] {
        assert_eq!(read(url).unwrap().host_display(), shown, "{url}");
    }
    let host = &read("postgres://u@h/d?hostaddr=10.0.0.1").unwrap().hosts[0];
    assert_eq!(host.hostaddr, Some(IpAddr::from([10, 0, 0, 1])));
    assert_eq!(host.name(), Some("h"));
    let socket = read("postgres://u@%2Ftmp/d?sslmode=require").unwrap();
    assert_eq!(socket.hosts[0].address, Address::Unix(PathBuf::from("/tmp")));
    assert_eq!(socket.ssl_mode(&socket.hosts[0]), SslMode::Disable);
}

#[test]
fn what_is_left_open_comes_from_the_environment_and_then_from_defaults() {
    let environment = |name: &str| match name {
        "PGUSER" => Some("env_user".to_owned()),
        "PGHOST" => Some("env_host".to_owned()),
        "PGPORT" => Some("99".to_owned()),
        "PGSSLMODE" => Some("require".to_owned()),
        "USER" => Some("os_user".to_owned()),
        _ => None,
    };
    let dsn = parse("postgresql://", &environment).unwrap();
    assert_eq!((dsn.user(), dsn.to_string()), ("env_user", "env_host:99/env_user".to_owned()));
    assert_eq!(dsn.ssl_mode(&dsn.hosts[0]), SslMode::Require);
    let dsn = parse("postgresql://me@h:1/d?sslmode=disable", &environment).unwrap();
    assert_eq!((dsn.user(), dsn.to_string()), ("me", "h:1/d".to_owned()));
    assert_eq!(dsn.ssl_mode(&dsn.hosts[0]), SslMode::Disable);

    let dsn = read("postgresql://me@h").unwrap();
    assert_eq!(dsn.dbname(), "me");
    assert_eq!(dsn.ssl_mode(&dsn.hosts[0]), SslMode::Prefer);
    assert_eq!(dsn.connect_timeout, Duration::from_secs(10));
    assert!(read("postgresql://h/d").unwrap_err().problem.contains("no user"));
}

#[test]
fn what_cannot_be_meant_is_refused_with_a_way_out() {
    for (url, problem) in [
        ("mysql://u@h/d", "does not begin with postgresql://"),
        ("host=h dbname=d", "does not begin with postgresql://"),
        ("postgresql://u:p%2@h/d", "the password has a `%`"),
        ("postgresql://u:p%zz@h/d", "the password has a `%`"),
        ("postgresql://u%00@h/d", "the user holds a zero byte"),
        ("postgresql://u:%FF@h/d", "the password is not UTF-8"),
        ("postgresql://u@h:0/d", "a port is not a number"),
        ("postgresql://u@h:99999/d", "a port is not a number"),
        ("postgresql://u@[::1/d", "no closing `]`"),
        ("postgresql://u@[::1]x/d", "text after an IPv6 address"),
        ("postgresql://u@::1/d", "several `:`"),
        ("postgresql://u@a,b/d?port=1,2,3", "numbers of hosts"),
        ("postgresql://u@h/d?hostaddr=name", "hostaddr is not an address"),
        ("postgresql://u@h/a/b", "database name holds a `/`"),
        ("postgresql://u@h/d?sslmode", "no `=`"),
        ("postgresql://u@h/d?sslmode=verify", "sslmode is none of the values"),
        ("postgresql://u@h/d?sslmod=require", "unknown parameter `sslmod`"),
        ("postgresql://u@h/d?sslcrl=x", "`sslcrl` is not supported"),
        ("postgresql://u@h/d?connect_timeout=soon", "connect_timeout is not a number"),
        ("postgresql://u@h/d?sslcert=/c", "only one is given"),
        ("postgresql://u@h/d?gssencmode=require", "GSSAPI"),
        ("postgresql://u@h/d?client_encoding=latin1", "client_encoding"),
        ("postgresql://u@h/d?sslrootcert=system&sslmode=require", "needs sslmode=verify-full"),
    ] {
        let error = read(url).unwrap_err();
        assert!(error.problem.contains(problem), "{url}: {error}");
        assert!(error.fix.is_some(), "{url}");
    }
    let fix = |url| read(url).unwrap_err().fix.unwrap();
    assert!(fix("postgresql://u@h/d?sslmod=x").contains("`sslmode`"));
    assert!(fix("postgresql://u@h/d?connection_timeout=1").contains("`connect_timeout`"));
    assert!(fix("postgresql://u@h/d?search_path=x").contains("options=-c%20search_path"));
    assert!(fix("postgresql://u@h/d?sslmode=verify").contains("verify-full"));
}

/// The pieces of a password that was not encoded end up in the host, the port, the database or a parameter.
#[test]
fn an_unencoded_password_is_not_shown_in_pieces() {
    for url in [
        "postgresql://u:CAN/ARY@h/d",
        "postgresql://u:12/CANARY@h/d",
        "postgresql://u:CAN@ARY@h/d",
        "postgresql://u:CAN?ARY=1@h/d",
        "postgresql://u:1?CANARY@h/d",
        "postgresql://u:CAN:ARY@h:x/d",
        "postgresql://u:CAN%ARY@h/d",
        "postgresql://u:CAN#ARY@h:bad/d",
    ] {
        let error = read(url).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("CAN") && !shown.contains("ARY"), "{url}: {shown}");
    }
}

fn encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(url in "(postgres(ql)?://)?[a-z:@/?&=%,\\[\\]0-9é\\x00]{0,60}") {
        if let Ok(dsn) = read(&url) {
            let _ = (dsn.to_string(), format!("{dsn:?}"));
            prop_assert!(!dsn.hosts.is_empty());
        }
    }

    #[test]
    fn any_password_is_read_back_and_never_shown(
        before in "[^\\x00]{0,10}", after in "[^\\x00]{0,10}", rest in "[a-z:/?&=%,0-9]{0,20}",
    ) {
        let secret = format!("{before}CANARY{after}");
        let dsn = read(&format!("postgresql://user:{}@h/d", encode(&secret))).unwrap();
        prop_assert_eq!(password(&dsn), Some(secret.as_str()));
        let shown = format!("{dsn} {dsn:?} {dsn:#?}");
        prop_assert!(!shown.contains("CANARY"));
        let shown = match read(&format!("postgresql://user:{}@h{rest}", encode(&secret))) {
            Ok(dsn) => format!("{dsn} {dsn:?}"),
            Err(error) => format!("{error} {error:?}"),
        };
        prop_assert!(!shown.contains("CANARY"));
    }
}
