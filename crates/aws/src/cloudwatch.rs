//! The one question that is asked of CloudWatch: how much room a disk has.
//!
//! ```text
//!  AWS_ENDPOINT_URL_CLOUDWATCH > profile > AWS_ENDPOINT_URL > monitoring.<region>
//!     └── GetMetricStatistics(AWS/RDS, FreeStorageSpace, least of the last hour's minutes) ──> the latest
//! ```
//!
//! One call does not need a client for all of CloudWatch: it is written and read here, and goes the way of all calls of the
//! SDK (connections, proxies, retries). Nobody waits long for it: what it says is advice.

use std::time::{Duration, SystemTime};

use aws_credential_types::{Credentials, provider::ProvideCredentials as _};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use aws_smithy_runtime::client::{
    orchestrator::operation::Operation,
    retries::classifiers::{HttpStatusCodeClassifier, TransientErrorClassifier},
};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        behavior_version::BehaviorVersion,
        orchestrator::{HttpRequest, HttpResponse, OrchestratorError},
    },
};
use aws_smithy_types::{body::SdkBody, error::ErrorMetadata, retry::RetryConfig, timeout::TimeoutConfig};
use aws_smithy_xml::decode::{Document, ScopedDecoder, XmlDecodeError, try_data};
use aws_types::{SdkConfig, service_config::ServiceConfigKey};
use jiff::{SignedDuration, Timestamp};

use crate::{
    client::{Aws, is_whole},
    error::{Call, Error},
};

const CALL: Call = Call { service: "cloudwatch", action: "GetMetricStatistics" };

/// The metric comes every minute, some minutes late.
const WINDOW: SignedDuration = SignedDuration::from_hours(1);

/// The end is not part of what is asked for, is cut to a second, and the clock there may be ahead.
const AHEAD: SignedDuration = SignedDuration::from_mins(1);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 2;

/// CloudWatch in one region.
#[derive(Debug, Clone)]
pub(crate) struct CloudWatch {
    config: SdkConfig,
    region: String,
    endpoint: String,
}

/// A value, and when it was measured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Datapoint {
    pub(crate) value: f64,
    /// As CloudWatch writes it.
    pub(crate) at: String,
}

impl CloudWatch {
    pub(crate) fn of(aws: &Aws) -> Self {
        let (config, region) = (aws.config().clone(), aws.region().to_owned());
        let endpoint = configured_endpoint(&config).unwrap_or_else(|| {
            let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
            format!("https://monitoring.{region}.amazonaws.com{suffix}")
        });
        Self { config, region, endpoint: endpoint.trim_end_matches('/').to_owned() }
    }

    /// Bytes that were free on the disk of an instance, lately; nothing when nobody measures it.
    pub(crate) async fn free_storage(&self, instance: &str) -> Result<Option<Datapoint>, Error> {
        let credentials = self
            .config
            .credentials_provider()
            .ok_or_else(|| Error::NoCredentials { tried: "no source of credentials is configured".to_owned() })?;
        let credentials = credentials.provide_credentials().await.map_err(|error| Error::from_credentials(&error))?;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(ATTEMPT_TIMEOUT * ATTEMPTS)
            .build();
        let (endpoint, region) = (self.endpoint.clone(), self.region.clone());
        let operation = Operation::builder()
            .service_name("cloudwatch")
            .operation_name(CALL.action)
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&self.endpoint)
            .no_auth()
            .standard_retry(&RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .retry_classifier(HttpStatusCodeClassifier::default())
            .retry_classifier(TransientErrorClassifier::<ErrorMetadata>::new())
            .timeout_config(timeouts)
            .serializer(move |form| request(form, &endpoint, &region, &credentials))
            .deserializer(answer)
            .build();
        let form = form(instance, Timestamp::now());
        let found: Vec<Datapoint> = operation.invoke(form).await.map_err(|error| Error::from_sdk(CALL, &error))?;
        Ok(found.into_iter().max_by(|a, b| a.at.cmp(&b.at)))
    }
}

/// Of this service, or of all.
fn configured_endpoint(config: &SdkConfig) -> Option<String> {
    let key = ServiceConfigKey::builder()
        .service_id("CloudWatch")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .ok()?;
    let own = config.service_config().and_then(|settings| settings.load_config(key));
    own.or_else(|| config.endpoint_url().map(str::to_owned))
}

/// An identifier of RDS needs no encoding; of a time, the colons do.
fn form(instance: &str, now: Timestamp) -> String {
    let time = |at: Timestamp| at.strftime("%Y-%m-%dT%H%%3A%M%%3A%SZ").to_string();
    format!(
        "Action={}&Version=2010-08-01&Namespace=AWS%2FRDS&MetricName=FreeStorageSpace\
         &Dimensions.member.1.Name=DBInstanceIdentifier&Dimensions.member.1.Value={instance}\
         &StartTime={}&EndTime={}&Period=60&Statistics.member.1=Minimum",
        CALL.action,
        time(now - WINDOW),
        time(now + AHEAD),
    )
}

fn request(form: String, endpoint: &str, region: &str, credentials: &Credentials) -> Result<HttpRequest, BoxError> {
    const TYPE: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
    let identity = credentials.clone().into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("monitoring")
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()?
        .into();
    let body = SignableBody::Bytes(form.as_bytes());
    let signable = SignableRequest::new("POST", format!("{endpoint}/"), [TYPE].into_iter(), body)?;
    let (instructions, _) = sign(signable, &parameters)?.into_parts();
    let signed: Vec<(String, String)> =
        instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut request = HttpRequest::new(SdkBody::from(form));
    request.set_method("POST")?;
    request.set_uri("/")?;
    request.headers_mut().try_insert(TYPE.0, TYPE.1)?;
    for (name, value) in signed {
        request.headers_mut().try_insert(name, value)?;
    }
    Ok(request)
}

fn answer(response: &HttpResponse) -> Result<Vec<Datapoint>, OrchestratorError<ErrorMetadata>> {
    let body = response.body().bytes().unwrap_or_default();
    let text = std::str::from_utf8(body).map_err(|error| OrchestratorError::response(error.into()))?;
    if !response.status().is_success() {
        return Err(OrchestratorError::operation(refusal(text)));
    }
    if !is_whole(body) {
        return Err(OrchestratorError::response("the answer is cut off".into()));
    }
    datapoints(text).map_err(|error| OrchestratorError::response(error.into()))
}

/// Elements of an element, by name.
fn each(
    within: &mut ScopedDecoder<'_, '_>,
    mut read: impl FnMut(&str, &mut ScopedDecoder<'_, '_>) -> Result<(), XmlDecodeError>,
) -> Result<(), XmlDecodeError> {
    while let Some(mut element) = within.next_tag() {
        let name = element.start_el().local().to_owned();
        read(&name, &mut element)?;
    }
    Ok(())
}

fn datapoints(text: &str) -> Result<Vec<Datapoint>, XmlDecodeError> {
    let mut found = Vec::new();
    let mut document = Document::new(text);
    each(&mut document.root_element()?, |name, result| match name {
        "GetMetricStatisticsResult" => each(result, |name, list| match name {
            "Datapoints" => each(list, |_, member| {
                found.push(datapoint(member)?);
                Ok(())
            }),
            _ => Ok(()),
        }),
        _ => Ok(()),
    })?;
    Ok(found)
}

fn datapoint(member: &mut ScopedDecoder<'_, '_>) -> Result<Datapoint, XmlDecodeError> {
    let (mut value, mut at) = (None, None);
    each(member, |name, element| {
        match name {
            "Minimum" => value = try_data(element)?.trim().parse().ok(),
            "Timestamp" => at = Some(try_data(element)?.trim().to_owned()),
            _ => {}
        }
        Ok(())
    })?;
    match (value, at) {
        (Some(value), Some(at)) => Ok(Datapoint { value, at }),
        _ => Err(XmlDecodeError::custom("a datapoint without a value or a time")),
    }
}

/// The code of a refusal; none when the answer is not one of this service.
fn refusal(text: &str) -> ErrorMetadata {
    let mut metadata = ErrorMetadata::builder();
    let mut document = Document::new(text);
    let read = document.root_element().and_then(|mut root| {
        each(&mut root, |name, error| match name {
            "Error" => each(error, |name, element| {
                match name {
                    "Code" => metadata = std::mem::take(&mut metadata).code(try_data(element)?),
                    "Message" => metadata = std::mem::take(&mut metadata).message(try_data(element)?),
                    _ => {}
                }
                Ok(())
            }),
            _ => Ok(()),
        })
    });
    match read {
        Ok(()) => metadata.build(),
        Err(_) => ErrorMetadata::builder().build(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_about_the_last_hour_of_one_disk() {
        let form = form("shop-1", "2026-01-01T12:00:00Z".parse().unwrap());
        assert!(form.contains("Dimensions.member.1.Value=shop-1&StartTime=2026-01-01T11%3A00%3A00Z&"), "{form}");
        assert!(form.contains("EndTime=2026-01-01T12%3A01%3A00Z&Period=60&Statistics.member.1=Minimum"), "{form}");
    }

    #[test]
    fn datapoints_are_read_in_whatever_order_they_come() {
        let text = "<GetMetricStatisticsResponse xmlns=\"http://monitoring.amazonaws.com/doc/2010-08-01/\">\
                    <GetMetricStatisticsResult><Label>FreeStorageSpace</Label><Datapoints>\
                    <member><Unit>Bytes</Unit><Minimum>1.2E10</Minimum><Timestamp>2026-01-01T11:59:00Z</Timestamp></member>\
                    <member><Timestamp>2026-01-01T11:58:00Z</Timestamp><Minimum>13.0</Minimum></member></Datapoints>\
                    </GetMetricStatisticsResult><ResponseMetadata/></GetMetricStatisticsResponse>";
        let found = datapoints(text).unwrap();
        assert_eq!(found[0], Datapoint { value: 1.2e10, at: "2026-01-01T11:59:00Z".to_owned() });
        assert_eq!(found.len(), 2);
        assert!(datapoints("<GetMetricStatisticsResponse><GetMetricStatisticsResult><Datapoints><member/>").is_err());
        let none = "<R><GetMetricStatisticsResult><Datapoints/></GetMetricStatisticsResult></R>";
        assert_eq!(datapoints(none).unwrap(), []);
    }

    #[test]
    fn a_refusal_has_the_code_of_the_service() {
        let text = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>User: x &amp; y</Message></Error></ErrorResponse>";
        let refused = refusal(text);
        assert_eq!((refused.code(), refused.message()), (Some("AccessDenied"), Some("User: x & y")));
        assert_eq!(refusal("<html>").code(), None);
        assert_eq!(refusal("busy").code(), None);
    }
}
