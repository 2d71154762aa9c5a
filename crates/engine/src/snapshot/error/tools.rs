//! What pg_dump and pg_restore say. They give no codes, only texts: libpq's (in English, as they run in locale C) and the
//! server's.

/// What time heals.
const PASSING: [&str; 12] = [
    // The connection broke, or the server stopped and comes back.
    "server closed the connection unexpectedly",
    "could not receive data from server",
    "could not send data to server",
    "SSL connection has been closed unexpectedly",
    "SSL SYSCALL error",
    "unexpected eof while reading",
    "Connection reset by peer",
    "Connection refused",
    "Connection timed out",
    "terminating connection due to",
    "the database system is ",
    // The session that exported the snapshot is gone.
    "SET TRANSACTION SNAPSHOT",
];

/// Whether the failure of a tool goes away by itself.
pub(super) fn is_passing(message: &str) -> bool {
    // pg_dump waited for a lock as long as it was told to.
    let waited = message.contains("LOCK TABLE") && message.contains("timeout");
    waited || PASSING.iter().any(|words| message.contains(words))
}

/// Whether a right is missing.
pub(super) fn is_denied(message: &str) -> bool {
    message.contains("permission denied")
}

/// What to type next.
pub(super) fn help(message: &str) -> &'static str {
    if is_denied(message) {
        "the source role needs USAGE on every schema and SELECT on every table and sequence: \
         `GRANT pg_read_all_data TO …` (PostgreSQL 14+), or GRANT USAGE ON SCHEMA and SELECT ON ALL TABLES per schema"
    } else if message.contains("out of shared memory") {
        "every table is locked while its schema is read: raise max_locks_per_transaction on the source"
    } else {
        "the message above is the tool's own; fix what it names and run this again: finished work is kept"
    }
}

#[cfg(test)]
mod tests {
    use pgstream_postgres::Class;

    use super::super::Error;

    #[test]
    fn a_tool_that_lost_its_connection_is_run_again() {
        let class = |message: &str| Error::ToolFailed { tool: "pg_dump", message: message.to_owned() }.class();
        for passing in [
            "pg_dump: error: query failed: server closed the connection unexpectedly",
            "pg_dump: error: connection to server at \"127.0.0.1\", port 1 failed: Connection refused",
            "pg_dump: error: query failed: ERROR:  snapshot \"00000004-1\" does not exist\npg_dump: detail: Query was: SET TRANSACTION SNAPSHOT '00000004-1'",
            "pg_dump: error: query failed: ERROR:  canceling statement due to statement timeout\npg_dump: detail: Query was: LOCK TABLE public.t IN ACCESS SHARE MODE",
        ] {
            assert_eq!(class(passing), Class::Transient, "{passing}");
        }
        assert_eq!(class("pg_dump: error: query failed: ERROR:  permission denied for table t"), Class::Setup);
        assert_eq!(class("pg_dump: error: connection failed: FATAL:  password authentication failed"), Class::Setup);
    }
}
