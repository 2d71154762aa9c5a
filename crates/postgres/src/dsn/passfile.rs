//! The password file: `host:port:database:user:password` a line, `*` matches anything, `\` escapes.

use std::{
    io,
    path::{Path, PathBuf},
};

use secrecy::SecretString;

use super::{Address, Dsn, Host};

/// The password for this login, if the passfile has one. A file that others can read is not used, as in libpq.
pub(crate) fn lookup(dsn: &Dsn, host: &Host, user: &str) -> Option<SecretString> {
    let path = path(dsn)?;
    if !is_private(&path) {
        tracing::warn!(path = %path.display(), "the password file is readable by others and is not used: chmod 0600");
        return None;
    }
    let text = std::fs::read_to_string(&path).ok()?;
    find(&text, host, &dsn.dbname, user)
}

fn path(dsn: &Dsn) -> Option<PathBuf> {
    let variable = || std::env::var_os("PGPASSFILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".pgpass"));
    dsn.passfile.clone().or_else(variable).or_else(home).filter(|path| path.is_file())
}

fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o077 == 0)
}

fn find(text: &str, host: &Host, dbname: &str, user: &str) -> Option<SecretString> {
    let host_field = match &host.address {
        Address::Name(name) => name.clone(),
        Address::Unix(directory) => directory.to_string_lossy().into_owned(),
    };
    let wanted = [host_field, host.port.to_string(), dbname.to_owned(), user.to_owned()];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut rest = line;
        for field in &wanted {
            let (value, after) = next_field(rest)?;
            rest = after?;
            if value.raw != "*" && value.text != *field {
                return None;
            }
        }
        let (password, _) = next_field(rest)?;
        (!password.text.is_empty()).then(|| password.text.into())
    })
}

struct Field<'a> {
    raw: &'a str,
    text: String,
}

/// The field up to the next unescaped `:`, and what follows that.
fn next_field(line: &str) -> Option<(Field<'_>, Option<&str>)> {
    let mut text = String::new();
    let mut characters = line.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
            ':' => return Some((Field { raw: &line[..at], text }, Some(&line[at + 1..]))),
            other => text.push(other),
        }
    }
    Some((Field { raw: line, text }, None))
}

/// Writes a passfile with one line, for any host and database.
pub(crate) fn write(path: &Path, user: &str, password: &str) -> io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let escape = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
    // The mode counts only for a file that is created here.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "*:*:*:{}:{}", escape(user), escape(password))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn host(name: &str) -> Host {
        Host { address: Address::Name(name.to_owned()), hostaddr: None, port: 5432 }
    }

    #[test]
    fn the_first_line_that_fits_gives_the_password() {
        let text = "# comment\nother:*:*:*:no\n\ndb.example.com:5432:*:al\\:ice:pa\\:ss\\\\wörd\n*:*:*:*:last";
        let found = |name, user| find(text, &host(name), "app", user).map(|found| found.expose_secret().to_owned());
        assert_eq!(found("db.example.com", "al:ice").as_deref(), Some("pa:ss\\wörd"));
        assert_eq!(found("db.example.com", "bob").as_deref(), Some("last"));
        assert_eq!(find("short:5432\nx", &host("short"), "app", "bob").map(|_| ()), None);
    }

    #[test]
    fn what_is_written_is_found_again_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pass");
        std::fs::write(&path, "left over, and readable by all").unwrap();
        write(&path, "a:b\\c", "p:q\\r s%").unwrap();
        assert!(is_private(&path));
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(find(&text, &host("h"), "d", "a:b\\c").unwrap().expose_secret(), "p:q\\r s%");
    }
}
