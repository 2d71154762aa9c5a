//! Where the server of a secret is that does not say so: RDS keeps only user and password in the secrets it manages.
//!
//! ```text
//!  aws.<side>.identifier ─┐
//!  tags of the secret ────┴─> DescribeDBInstances / DescribeDBClusters ─> endpoint, port, database
//! ```

use super::{SecretError, Store};
use crate::{Aws, Call, Error};

/// The tags that RDS gives to the secrets it manages.
const INSTANCE_TAG: &str = "aws:rds:primaryDBInstanceArn";
const CLUSTER_TAG: &str = "aws:rds:primaryDBClusterArn";

/// Where a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database that it was created with.
    pub dbname: Option<String>,
}

/// The endpoint of what `identifier` names, else of what the tags of the secret name; `None` when neither says anything.
///
/// # Errors
/// A call fails, or what is named has no endpoint.
pub async fn find(
    aws: &Aws,
    store: &Store,
    secret: &str,
    identifier: Option<&str>,
) -> Result<Option<Endpoint>, SecretError> {
    let tagged = match identifier {
        Some(_) => None,
        None => store.tags(secret).await?.into_iter().find(|(key, _)| key == INSTANCE_TAG || key == CLUSTER_TAG),
    };
    let Some(identifier) = identifier.map(str::to_owned).or(tagged.map(|(_, arn)| arn)) else { return Ok(None) };
    let aws = match identifier.strip_prefix("arn:").and_then(|arn| arn.split(':').nth(2)) {
        Some(region) => aws.in_region(region),
        None => aws.clone(),
    };
    let look = Lookup { rds: aws.rds(), identifier: &identifier };
    // An ARN says which of the two it is; a plain name may be either.
    let found = if identifier.contains(":cluster:") {
        look.cluster().await?
    } else if identifier.contains(":db:") {
        look.instance().await?
    } else {
        match look.cluster().await? {
            Some(found) => Some(found),
            None => look.instance().await?,
        }
    };
    let absent = || SecretError::NoEndpoint {
        identifier: identifier.clone(),
        problem: format!("there is no instance or cluster of this name in {}", aws.region()),
    };
    found.ok_or_else(absent).map(Some)
}

struct Lookup<'a> {
    rds: aws_sdk_rds::Client,
    identifier: &'a str,
}

impl Lookup<'_> {
    async fn cluster(&self) -> Result<Option<Endpoint>, SecretError> {
        let answer = self.rds.describe_db_clusters().db_cluster_identifier(self.identifier).send().await;
        let answer = match answer.map_err(|error| Error::from_sdk(Call::rds("DescribeDBClusters"), &error)) {
            Ok(answer) => answer,
            Err(error) if error.refusal() == Some("DBClusterNotFoundFault") => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(cluster) = answer.db_clusters.unwrap_or_default().pop() else { return Ok(None) };
        self.endpoint(cluster.endpoint, cluster.port, cluster.database_name, cluster.status).map(Some)
    }

    async fn instance(&self) -> Result<Option<Endpoint>, SecretError> {
        let answer = self.rds.describe_db_instances().db_instance_identifier(self.identifier).send().await;
        let answer = match answer.map_err(|error| Error::from_sdk(Call::rds("DescribeDBInstances"), &error)) {
            Ok(answer) => answer,
            Err(error) if matches!(error.refusal(), Some("DBInstanceNotFound" | "DBInstanceNotFoundFault")) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let Some(instance) = answer.db_instances.unwrap_or_default().pop() else { return Ok(None) };
        let (host, port) = instance.endpoint.map_or((None, None), |endpoint| (endpoint.address, endpoint.port));
        self.endpoint(host, port, instance.db_name, instance.db_instance_status).map(Some)
    }

    fn endpoint(
        &self,
        host: Option<String>,
        port: Option<i32>,
        dbname: Option<String>,
        status: Option<String>,
    ) -> Result<Endpoint, SecretError> {
        match (host, port.and_then(|port| u16::try_from(port).ok())) {
            (Some(host), port) => Ok(Endpoint { host, port: port.filter(|port| *port > 0).unwrap_or(5432), dbname }),
            (None, _) => Err(SecretError::NoEndpoint {
                identifier: self.identifier.to_owned(),
                problem: format!("its status is `{}`", status.as_deref().unwrap_or("unknown")),
            }),
        }
    }
}
