//! What the name of a host tells: endpoints of RDS and Aurora that cannot be used, found without asking anybody.

use crate::check::{Category, Severity, Side};

/// Ports on which a pooler usually listens.
const POOLER_PORTS: [u16; 1] = [6432];

/// A check of host names.
pub(crate) struct EndpointCheck {
    pub(crate) id: &'static str,
    pub(crate) why: &'static str,
    pub(crate) found: &'static str,
    pub(crate) fix: &'static str,
    pub(crate) matches: fn(&str, u16) -> bool,
}

impl EndpointCheck {
    pub(crate) fn category(&self) -> Category {
        if self.id.starts_with("aws.") { Category::Aws } else { Category::Connectivity }
    }

    /// A port proves less than a name.
    pub(crate) fn severity(&self) -> Severity {
        if self.id.starts_with("aws.") { Severity::Error } else { Severity::Warning }
    }
}

/// The catalogue of endpoints. Each is an error on either side, where a session must stay with one writable server.
pub(crate) const ENDPOINTS: &[EndpointCheck] = &[
    EndpointCheck {
        id: "aws.reader_endpoint",
        why: "slots live on the writer only; a reader accepts no writes and may be another server at each connect",
        found: "the host is an Aurora reader endpoint (`cluster-ro-`)",
        fix: "use the cluster's writer endpoint: the same name with `cluster-` in place of `cluster-ro-`",
        matches: |host, _| is_rds(host) && host.contains(".cluster-ro-"),
    },
    EndpointCheck {
        id: "aws.custom_endpoint",
        why: "a custom endpoint spreads connections over instances: an exported snapshot and a slot belong to one",
        found: "the host is an Aurora custom endpoint (`cluster-custom-`)",
        fix: "use the cluster's writer endpoint (`aws rds describe-db-clusters --query 'DBClusters[].Endpoint'`)",
        matches: |host, _| is_rds(host) && host.contains(".cluster-custom-"),
    },
    EndpointCheck {
        id: "aws.proxy_endpoint",
        why: "RDS Proxy has no replication mode, and pins or mixes sessions of the copy",
        found: "the host is an RDS Proxy endpoint (`proxy-`)",
        fix: "use the endpoint of the instance, or the writer endpoint of the cluster",
        matches: |host, _| is_rds(host) && host.contains(".proxy-"),
    },
    EndpointCheck {
        id: "connectivity.pooler",
        why: "a pooler has no replication mode, and in transaction mode loses session settings, locks and snapshots",
        found: "the port is the usual one of PgBouncer (6432)",
        fix: "use the server's own port, usually 5432",
        matches: |_, port| POOLER_PORTS.contains(&port),
    },
];

/// The side is only for the report: what is wrong with an endpoint is wrong on both.
pub(crate) fn wrong<'a>(
    hosts: impl Iterator<Item = (&'a str, u16)>,
    side: Side,
) -> Vec<(&'static EndpointCheck, Side, String)> {
    let mut found = Vec::new();
    for (host, port) in hosts {
        let host = host.to_ascii_lowercase();
        for check in ENDPOINTS.iter().filter(|check| (check.matches)(&host, port)) {
            found.push((check, side, format!("{host}:{port}: {}", check.found)));
        }
    }
    found
}

pub(crate) fn is_rds(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host.ends_with(".rds.amazonaws.com") || host.ends_with(".rds.amazonaws.com.cn")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(host: &str, port: u16) -> Vec<&'static str> {
        wrong([(host, port)].into_iter(), Side::Source).iter().map(|(check, ..)| check.id).collect()
    }

    #[test]
    fn endpoints_that_are_not_one_writer_are_told_by_their_names() {
        for (host, id) in [
            ("shop.cluster-ro-c1abc.eu-west-1.rds.amazonaws.com", "aws.reader_endpoint"),
            ("any.cluster-custom-c1abc.eu-west-1.rds.amazonaws.com", "aws.custom_endpoint"),
            ("px.proxy-c1abc.eu-west-1.rds.amazonaws.com", "aws.proxy_endpoint"),
            ("PX.PROXY-c1abc.cn-north-1.rds.amazonaws.com.cn.", "aws.proxy_endpoint"),
        ] {
            assert_eq!(ids(host, 5432), [id], "{host}");
        }
        assert_eq!(ids("db.example.com", 6432), ["connectivity.pooler"]);
    }

    #[test]
    fn writers_and_instances_are_fine() {
        for host in [
            "shop.cluster-c1abc.eu-west-1.rds.amazonaws.com",
            "shop-1.c1abc.eu-west-1.rds.amazonaws.com",
            "my.proxy-host.example.com",
            "localhost",
        ] {
            assert!(ids(host, 5432).is_empty(), "{host}");
        }
    }
}
