//! Which database is meant: an identifier, an ARN, or the host of an endpoint.
//!
//! ```text
//!  shop                                                    ─> instance or cluster `shop`
//!  arn:aws:rds:eu-west-1:123456789012:cluster:shop         ─> cluster `shop` in eu-west-1
//!  shop.cluster-c9x.eu-west-1.rds.amazonaws.com            ─> cluster `shop` in eu-west-1
//!  shop.c9x.eu-west-1.rds.amazonaws.com                    ─> instance `shop` in eu-west-1
//!  db.internal:5432, 127.0.0.1:5432                        ─> the one whose endpoint this is
//! ```
//!
//! Readers and proxies are refused by their names already: neither can be replicated from.

use super::Error;

/// What the user named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// As it was written.
    pub text: String,
    /// The region that the name holds.
    pub region: Option<String>,
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// An instance, a cluster, or, if neither is said, either.
    Identifier { id: String, kind: Option<Kind> },
    /// An address to be compared with endpoints.
    Endpoint { host: String, port: Option<u16> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Instance,
    Cluster,
}

impl Named {
    /// Reads an identifier, an ARN, or a host with or without port.
    ///
    /// # Errors
    /// It names something that cannot be prepared: a reader, a proxy, a snapshot.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if text.starts_with("arn:") {
            return Self::arn(text);
        }
        if text.contains(['.', ':']) {
            let (host, port) = match text.rsplit_once(':') {
                Some((host, digits)) if !host.contains(':') => (host, digits.parse().ok()),
                _ => (text, None),
            };
            return Self::endpoint(host, port);
        }
        let is_identifier = text.starts_with(|letter: char| letter.is_ascii_alphabetic())
            && text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
        if !is_identifier {
            return Err(Error::NotAName { text: text.to_owned() });
        }
        let what = What::Identifier { id: text.to_ascii_lowercase(), kind: None };
        Ok(Self { text: text.to_owned(), region: None, what })
    }

    fn arn(text: &str) -> Result<Self, Error> {
        let refused = || Error::NotAName { text: text.to_owned() };
        let parts: Vec<&str> = text.split(':').collect();
        let [_, _, "rds", region, _, kind, id] = parts[..] else { return Err(refused()) };
        let kind = match kind {
            "db" => Kind::Instance,
            "cluster" => Kind::Cluster,
            "db-proxy" | "db-proxy-endpoint" => return Err(Error::Proxy { name: text.to_owned() }),
            _ => return Err(refused()),
        };
        let what = What::Identifier { id: id.to_ascii_lowercase(), kind: Some(kind) };
        Ok(Self { text: text.to_owned(), region: Some(region.to_owned()), what })
    }

    /// From the host of a connection URL.
    ///
    /// # Errors
    /// It is the endpoint of readers or of a proxy.
    pub fn endpoint(host: &str, port: Option<u16>) -> Result<Self, Error> {
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let text = host.to_owned();
        let stem = name.strip_suffix(".cn").unwrap_or(&name).strip_suffix(".rds.amazonaws.com");
        let labels: Option<Vec<&str>> = stem.map(|stem| stem.split('.').collect());
        // Identifier, a label of the account, region.
        let Some([id, account, region]) = labels.as_deref() else {
            return Ok(Self { text, region: None, what: What::Endpoint { host: name, port } });
        };
        let kind = match account {
            account if account.starts_with("proxy-") => return Err(Error::Proxy { name: text }),
            account if account.starts_with("cluster-ro-") => return Err(Error::Reader { name: text }),
            // Its members are the user's choice, perhaps readers.
            account if account.starts_with("cluster-custom-") => return Err(Error::Reader { name: text }),
            account if account.starts_with("cluster-") => Kind::Cluster,
            _ => Kind::Instance,
        };
        let what = What::Identifier { id: (*id).to_owned(), kind: Some(kind) };
        Ok(Self { text, region: Some((*region).to_owned()), what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identifier(text: &str) -> (String, Option<Kind>, Option<String>) {
        let named = Named::parse(text).unwrap();
        match named.what {
            What::Identifier { id, kind } => (id, kind, named.region),
            What::Endpoint { host, .. } => panic!("{host} was taken for an endpoint"),
        }
    }

    #[test]
    fn a_database_has_many_names() {
        assert_eq!(identifier("Shop-1"), ("shop-1".into(), None, None));
        let region = Some("eu-west-1".to_owned());
        let cluster = ("shop".to_owned(), Some(Kind::Cluster), region.clone());
        assert_eq!(identifier("arn:aws:rds:eu-west-1:123456789012:cluster:shop"), cluster);
        assert_eq!(identifier("shop.cluster-c9x.eu-west-1.rds.amazonaws.com:5432"), cluster);
        let instance = ("shop".to_owned(), Some(Kind::Instance), region);
        assert_eq!(identifier("arn:aws:rds:eu-west-1:123456789012:db:shop"), instance);
        assert_eq!(identifier("shop.c9x.eu-west-1.rds.amazonaws.com"), instance);
        let china = identifier("shop.c9x.cn-north-1.rds.amazonaws.com.cn");
        assert_eq!(china, ("shop".into(), Some(Kind::Instance), Some("cn-north-1".into())));
    }

    #[test]
    fn another_host_is_looked_up_among_the_endpoints() {
        let named = Named::parse("127.0.0.1:5433").unwrap();
        assert_eq!(named.what, What::Endpoint { host: "127.0.0.1".into(), port: Some(5433) });
    }

    #[test]
    fn readers_and_proxies_are_refused_by_name() {
        for reader in
            ["shop.cluster-ro-c9x.eu-west-1.rds.amazonaws.com", "x.cluster-custom-c9x.eu-west-1.rds.amazonaws.com"]
        {
            assert!(matches!(Named::parse(reader), Err(Error::Reader { .. })), "{reader}");
        }
        assert!(matches!(Named::parse("p.proxy-c9x.eu-west-1.rds.amazonaws.com"), Err(Error::Proxy { .. })));
        assert!(matches!(Named::parse("arn:aws:rds:eu-west-1:1:db-proxy:prx-1"), Err(Error::Proxy { .. })));
        assert!(matches!(Named::parse("arn:aws:rds:eu-west-1:1:snapshot:x"), Err(Error::NotAName { .. })));
        assert!(matches!(Named::parse("a b"), Err(Error::NotAName { .. })));
    }
}
