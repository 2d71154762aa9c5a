//! How AWS is reached: region, credentials, endpoints, timeouts, retries.
//!
//! ```text
//!  flags > AWS_* variables > profile in ~/.aws > role of the task or machine
//! ```
//!
//! Endpoints come from `AWS_ENDPOINT_URL`, or for one service from `AWS_ENDPOINT_URL_RDS` and the like. Region and
//! credentials are looked for once, at the beginning: a command that has none says so before it does anything.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sdk_rds::{
    config::{ConfigBag, Intercept, RuntimeComponents, interceptors::AfterDeserializationInterceptorContextRef},
    error::BoxError,
};

use crate::error::Error;

/// A reachable endpoint accepts within milliseconds; an unreachable one should be named soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The slowest calls (a page of parameters) answer within two seconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);

/// All attempts of one call: room for throttling to end, short enough for somebody who waits.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(90);

/// RDS throttles per account, and consoles and other tools share the quota. `AWS_MAX_ATTEMPTS` overrides it.
const MAX_ATTEMPTS: u32 = 6;

/// What the user said about AWS; what is left open comes from the SDK's own chain.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Region, before `AWS_REGION` and the profile's.
    pub region: Option<String>,
    /// Profile of `~/.aws`, before `AWS_PROFILE`.
    pub profile: Option<String>,
}

/// AWS, as one set of credentials sees it in one region. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Aws {
    config: SdkConfig,
    region: String,
}

impl Aws {
    /// Reads region, profile and endpoints. Talks to nothing but, on a machine of AWS, its metadata service.
    ///
    /// # Errors
    /// No region is set anywhere.
    pub async fn load(settings: &Settings) -> Result<Self, Error> {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(OPERATION_TIMEOUT)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).timeout_config(timeouts);
        if std::env::var_os("AWS_MAX_ATTEMPTS").is_none() {
            loader = loader.retry_config(RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS));
        }
        if let Some(region) = &settings.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &settings.profile {
            loader = loader.profile_name(profile);
        }
        let config = Box::pin(loader.load()).await;
        let region = config.region().map(ToString::to_string).filter(|region| !region.is_empty());
        Ok(Self { region: region.ok_or(Error::NoRegion)?, config })
    }

    /// From what tests make up.
    #[cfg(test)]
    pub(crate) fn from_config(config: SdkConfig, region: &str) -> Self {
        Self { config, region: region.to_owned() }
    }

    /// The same credentials in another region: an ARN or a host name says where its database is.
    #[must_use]
    pub fn in_region(&self, region: &str) -> Self {
        if region == self.region {
            return self.clone();
        }
        let config = self.config.to_builder().region(Region::new(region.to_owned())).build();
        Self { config, region: region.to_owned() }
    }

    /// The region that calls go to.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Looks for credentials once, so that their absence is said plainly and at once.
    ///
    /// # Errors
    /// There are none, or their source does not give them.
    pub async fn check_credentials(&self) -> Result<(), Error> {
        let Some(provider) = self.config.credentials_provider() else {
            return Err(Error::NoCredentials { tried: "no source of credentials is configured".to_owned() });
        };
        provider.provide_credentials().await.map(drop).map_err(|error| Error::from_credentials(&error))
    }

    /// What the clients of the services are made from.
    pub(crate) fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// A client of the RDS API.
    pub(crate) fn rds(&self) -> aws_sdk_rds::Client {
        let config = aws_sdk_rds::config::Builder::from(self.config()).interceptor(WholeAnswers).build();
        aws_sdk_rds::Client::from_conf(config)
    }
}

/// A document of the Query protocols ends with `</…Response>`.
pub(crate) fn is_whole(body: &[u8]) -> bool {
    body.trim_ascii_end().ends_with(b"Response>")
}

/// Refuses documents that are cut off. The SDK's parser takes them as if they ended there: a list of databases would be
/// shorter, and a group that others use would seem to be used by nobody.
#[derive(Debug)]
struct WholeAnswers;

impl Intercept for WholeAnswers {
    fn name(&self) -> &'static str {
        "WholeAnswers"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        let body = response.body().bytes().unwrap_or_default();
        match !response.status().is_success() || is_whole(body) {
            true => Ok(()),
            false => Err("the answer is cut off".into()),
        }
    }
}
