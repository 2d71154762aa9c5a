//! What may be shown of what was written.
//!
//! Errors quote what the user wrote, and a password ends up anywhere: in a URL with a stray space, under the wrong key,
//! as a key. Hence two rules: the value of a secret key is never quoted, and a text that could hold a password is
//! hidden wherever it stands.

/// Longer texts are cut: an error names a value, it does not reproduce it.
const SHOWN: usize = 60;

/// Stands for what is hidden.
const HIDDEN: &str = "***";

/// The connection URL with its password masked, fit for logs. One whose parts cannot be told apart is masked whole, and
/// so is what is no connection URL.
#[must_use]
pub fn redact_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return HIDDEN.to_owned() };
    // `user://password` looks like a URL, too.
    if !["postgresql", "postgres", "secretsmanager"].contains(&scheme) {
        return HIDDEN.to_owned();
    }
    // A password with an unescaped `/`, `?` or `#` moves the borders of all that follows.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((login, _)) if login.contains(['/', '?', '#']) => return format!("{scheme}://{HIDDEN}"),
        Some((login, rest)) => match login.split_once([':', '@']) {
            Some((user, _)) => (format!("{user}:{HIDDEN}@"), rest),
            None => (format!("{login}@"), rest),
        },
        None => (String::new(), rest),
    };
    let (place, query) = match rest.split_once(['?', '#']) {
        Some((place, query)) => (place, Some(query)),
        None => (rest, None),
    };
    let hosts = place.split('/').next().unwrap_or_default();
    // `postgres://user:password` without a host: what stands for the port is not one.
    if hosts.split(',').any(|host| !is_host(host)) {
        return format!("{scheme}://{HIDDEN}");
    }
    let query = query.map(|query| {
        let parameters: Vec<_> = query.split('&').map(redact_parameter).collect();
        format!("?{}", parameters.join("&"))
    });
    format!("{scheme}://{user}{place}{}", query.unwrap_or_default())
}

fn is_host(host: &str) -> bool {
    let port = match host.strip_prefix('[') {
        Some(literal) => match literal.split_once(']') {
            Some((address, port)) if address.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')) => port,
            _ => return false,
        },
        None => host.find(':').map_or("", |colon| &host[colon..]),
    };
    port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
}

/// An encoded name may spell `password`, too, and a second `?` may start the parameters that were meant.
fn redact_parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((name, value))
            if name.contains('%') || name.to_ascii_lowercase().contains("pass") || value.contains(['?', '=']) =>
        {
            format!("{name}={HIDDEN}")
        }
        Some(_) => parameter.to_owned(),
        None => HIDDEN.to_owned(),
    }
}

/// Whether the text might hold a password.
pub(crate) fn is_suspicious(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    text.contains('@')
        || ["://", "postgres:", "postgresql:", "password", "passwd", "pwd", "secret", "token"]
            .iter()
            .any(|mark| lower.contains(mark))
}

/// In place of a text that might hold a password.
pub(crate) fn hidden() -> String {
    format!("`{HIDDEN}` (hidden: it may hold a password)")
}

/// The text in backquotes, on one line, cut, or hidden when it might hold a password.
pub(crate) fn shown(text: &str) -> String {
    if is_suspicious(text) {
        return hidden();
    }
    let mut line: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().count() > SHOWN {
        line.push('…');
    }
    format!("`{}`", line.replace("\\'", "'").replace("\\\"", "\""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_lose_their_password_and_nothing_else() {
        for (url, safe) in [
            ("postgres://u:pw@h:5432/db?sslmode=require", "postgres://u:***@h:5432/db?sslmode=require"),
            ("postgresql://u@h/db", "postgresql://u@h/db"),
            ("postgresql://h,[::1]:5433/db", "postgresql://h,[::1]:5433/db"),
            ("postgresql:///db?host=/run/pg&password=pw", "postgresql:///db?host=/run/pg&password=***"),
            ("postgresql://h/db?pass%77ord=pw", "postgresql://h/db?pass%77ord=***"),
            ("secretsmanager://prod/source?dbname=app", "secretsmanager://prod/source?dbname=app"),
            ("postgres://u:p@w@h/db", "postgres://u:***@h/db"),
            ("postgres://u:p/w@h/db", "postgres://***"),
            ("postgres://u:p?w@h/db", "postgres://***"),
            ("postgres://u:pw", "postgres://***"),
            ("postgres://h/db?password=p@w", "postgres://***"),
            ("host=h password=pw", "***"),
            ("postgres:/u:pw@h", "***"),
            ("u:pw//://x", "***"),
            ("", "***"),
        ] {
            assert_eq!(redact_url(url), safe, "{url}");
        }
    }

    #[test]
    fn values_are_quoted_on_one_line() {
        assert_eq!(shown("a\nb'\""), "`a\\nb'\"`");
        assert_eq!(shown(&"x".repeat(61)), format!("`{}…`", "x".repeat(60)));
        assert_eq!(shown("postgres://u:pw@h"), "`***` (hidden: it may hold a password)");
    }

    proptest! {
        #[test]
        fn no_password_survives(
            before in "[a-zA-Z0-9:@/?#%&=,\\[\\] ]{0,6}",
            after in "[a-zA-Z0-9:@/?#%&=,\\[\\] ]{0,6}",
            user in "[a-z]{0,4}",
            tail in "(h|h:5432|\\[::1\\]|)(/db)?(\\?sslmode=require)?",
        ) {
            let password = format!("{before}CANARY{after}");
            let mut urls = vec![
                format!("postgres://{user}:{password}@{tail}"),
                format!("postgres://{tail}?password={}", password.replace('&', "")),
                format!("postgres:/{user}:{password}@{tail}"),
                format!("{user}:{password}@{tail}"),
            ];
            // Otherwise it is a well-formed URL of another host.
            if !password.contains(['@', '/', '?', '#', ',', '[']) {
                urls.push(format!("postgres://{user}:{password}"));
            }
            for url in urls {
                let safe = redact_url(&url);
                prop_assert!(!safe.contains("CANARY"), "{url} -> {safe}");
            }
        }

        #[test]
        fn nothing_panics(text in "\\PC*") {
            let _ = redact_url(&text);
            let _ = shown(&text);
        }
    }
}
