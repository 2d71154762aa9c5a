//! What is between this machine and the servers: clocks, client tools, TLS.

use std::time::{SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use miette::Diagnostic as _;
use pgstream_engine::snapshot;
use pgstream_postgres::{Client, Error, Server};

use crate::{
    check::{Category, Severity, Side},
    plan::Plan,
    report::{Finding, Instance},
};

/// Signatures of AWS hold for 5 minutes; half of it leaves time to mend the clock.
const SKEW_SECONDS: f64 = 150.0;

/// A check that is neither of one server nor of both.
pub(crate) struct MachineCheck {
    pub(crate) id: &'static str,
    pub(crate) category: Category,
    pub(crate) severity: Severity,
    pub(crate) why: &'static str,
}

impl MachineCheck {
    pub(crate) fn finding(&self, side: Side, found: String, fix: String) -> Finding {
        Finding {
            id: self.id.to_owned(),
            category: self.category,
            side,
            severity: self.severity,
            why: self.why.to_owned(),
            instances: vec![Instance { found, fix }],
        }
    }
}

const TLS: MachineCheck = MachineCheck {
    id: "aws.tls_not_verified",
    category: Category::Aws,
    severity: Severity::Warning,
    why: "whoever is between could answer in its place and read the password; the roots of RDS are built in",
};

const CLOCK: MachineCheck = MachineCheck {
    id: "resources.clock_skew",
    category: Category::Resources,
    severity: Severity::Warning,
    why: "AWS refuses signatures and IAM tokens of a wrong clock, certificates seem to be expired, and lag is told wrongly",
};

const TOOLS: MachineCheck = MachineCheck {
    id: "resources.client_tools",
    category: Category::Resources,
    severity: Severity::Error,
    why: "pg_dump reads the schema, and refuses a server that is newer than itself",
};

pub(crate) const CHECKS: [MachineCheck; 3] = [TLS, CLOCK, TOOLS];

/// Makes these checks: how many, and what was found.
pub(crate) async fn check(
    plan: &Plan,
    servers: [(Side, Option<&Server>, Option<&Client>); 2],
) -> (Vec<Category>, Vec<Finding>) {
    let (mut made, mut findings) = (Vec::new(), Vec::new());
    if plan.wants(Category::Aws) {
        made.push(Category::Aws);
        findings.extend(servers.iter().filter_map(|(side, server, _)| tls(*side, (*server)?)));
    }
    if plan.wants(Category::Resources) {
        if servers.iter().any(|(.., client)| client.is_some()) {
            made.push(Category::Resources);
        }
        let clocks = servers.iter().filter_map(|(side, _, client)| Some(clock(*side, (*client)?)));
        findings.extend(join_all(clocks).await.into_iter().flatten());
        if let Some(client) = servers[0].2.filter(|_| plan.copies_schema()) {
            made.push(Category::Resources);
            findings.extend(tools(client).await);
        }
    }
    (made, findings)
}

fn tls(side: Side, server: &Server) -> Option<Finding> {
    let dsn = server.dsn();
    let rds = dsn.host_names().any(|(host, _)| crate::endpoint::is_rds(&host.to_ascii_lowercase()));
    let fix = "use sslmode=verify-full in the URL, the default for RDS".to_owned();
    (rds && !dsn.verifies_names())
        .then(|| TLS.finding(side, format!("sslmode of {} does not check who answers", dsn.host_display()), fix))
}

async fn clock(side: Side, client: &Client) -> Option<Finding> {
    let before = now();
    let theirs = seconds(client).await.ok()?;
    let skew = skew(before, theirs, now());
    (skew > SKEW_SECONDS).then(|| {
        let found = format!("the clocks of the {} and of this machine are {skew:.0} seconds apart", side.name());
        CLOCK.finding(side, found, "set this machine's clock (`timedatectl set-ntp true`)".to_owned())
    })
}

/// The answer came between two readings of this machine's clock: only what is outside of both is skew, however slow it was.
fn skew(before: f64, theirs: f64, after: f64) -> f64 {
    (before - theirs).max(theirs - after).max(0.0)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

async fn seconds(client: &Client) -> Result<f64, Error> {
    let sql = "SELECT extract(epoch FROM clock_timestamp())::float8";
    Ok(client.query_one(sql, &[]).await.map_err(client.failed("reading the clock"))?.get(0))
}

async fn tools(client: &Client) -> Option<Finding> {
    let major = client.major_version().await.ok()?;
    let error = snapshot::tools_for(major).await.err()?;
    let help = error.help().map(|help| help.to_string()).unwrap_or_default();
    Some(TOOLS.finding(Side::Source, error.to_string(), help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_is_no_skew() {
        let same = |a: f64, b: f64| (a - b).abs() < f64::EPSILON;
        assert!(same(skew(1000.0, 1300.0, 1400.0), 0.0));
        assert!(same(skew(1000.0, 700.0, 1001.0), 300.0));
        assert!(same(skew(1000.0, 1301.0, 1001.0), 300.0));
    }
}
