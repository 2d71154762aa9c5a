//! Where the login of a server comes from: its URL, a secret, or IAM.
//!
//! ```text
//!  url                     aws.<side>          access
//!  postgresql://…          -                   URL, PGPASSWORD, passfile
//!  postgresql://…          secret              user and password of the secret
//!  -                       secret              everything of the secret
//!  secretsmanager://name   (identifier)        everything of the secret
//!  postgresql://user@…     iam_auth: true      a token for each login
//! ```

use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    error::{Code, Place},
    pipeline::Access,
    secret_url::{SCHEME, SecretUrl},
    written::Written,
};

/// The keys of one side.
pub(super) struct Side {
    url: &'static str,
    secret: &'static str,
    iam_auth: &'static str,
    identifier: &'static str,
}

pub(super) const SOURCE: Side = Side {
    url: "source.postgres.url",
    secret: "aws.source.secret",
    iam_auth: "aws.source.iam_auth",
    identifier: "aws.source.identifier",
};

pub(super) const TARGET: Side = Side {
    url: "target.postgres.url",
    secret: "aws.target.secret",
    iam_auth: "aws.target.iam_auth",
    identifier: "aws.target.identifier",
};

/// The URL of a side and what it is used with; `None` when nothing usable is written.
pub(super) fn of(w: &mut Written, side: &Side) -> Option<(SecretString, Access)> {
    let url = w.url(side.url);
    let named = url.as_ref().and_then(|url| SecretUrl::parse(url.expose_secret())?.ok()).map(|url| url.secret);
    let (secret, iam) = (w.text(side.secret), w.flag(side.iam_auth));
    let identifier = w.text(side.identifier);
    if secret.as_deref().is_some_and(|name| name.contains('?') || !is_a_name(name)) {
        let what = format!("{} is no name or ARN of a secret (its value is not shown)", side.secret);
        let fix = "names have letters, digits and `/_+=.@-!`; parameters belong into a secretsmanager:// URL";
        problem(w, side.secret, Code::WrongValue, &what, fix);
        return None;
    }
    if secret.is_some() && named.is_some() {
        conflict(
            w,
            side.secret,
            &format!("{} and {} both name a secret", side.secret, side.url),
            "remove one of the two",
        );
    }
    if iam && (secret.is_some() || named.is_some()) {
        let what = format!("{}: true asks for tokens, and a secret is named, too", side.iam_auth);
        conflict(
            w,
            side.iam_auth,
            &what,
            "remove the secret, and write the endpoint and the user as a postgresql:// URL",
        );
    }
    if identifier.is_some() && secret.is_none() && named.is_none() {
        let what = format!("{} completes a secret, and none is named", side.identifier);
        conflict(w, side.identifier, &what, &format!("write {}, or remove it", side.secret));
    }
    match (url, named.or(secret)) {
        (Some(url), Some(secret)) => Some((url, Access::Secret { secret, identifier })),
        (None, Some(secret)) if !w.has_failed(side.url) => {
            Some((format!("{SCHEME}{secret}").into(), Access::Secret { secret, identifier }))
        }
        (Some(url), None) => Some((url, if iam { Access::IamToken } else { Access::Url })),
        (None, _) => None,
    }
}

fn is_a_name(name: &str) -> bool {
    matches!(SecretUrl::parse(&format!("{SCHEME}{name}")), Some(Ok(_)))
}

fn conflict(w: &mut Written, key: &'static str, what: &str, fix: &str) {
    problem(w, key, Code::Conflict, what, fix);
}

fn problem(w: &mut Written, key: &'static str, code: Code, what: &str, fix: &str) {
    let place = w.place(key).cloned().unwrap_or(Place::Nowhere);
    w.problem(&place, code, what, fix);
}
