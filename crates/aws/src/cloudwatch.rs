//! The two things that are asked of CloudWatch: how much room a disk has, and to keep metrics.
//!
//! ```text
//!  AWS_ENDPOINT_URL_CLOUDWATCH > profile > AWS_ENDPOINT_URL > monitoring.<region>
//!     ├── GetMetricStatistics(AWS/RDS, FreeStorageSpace, least of the last hour's minutes) ──> storage.rs
//!     └── PutMetricData(namespace, values) <────────────────────────────────────────────────── put.rs
//! ```
//!
//! Two calls do not need a client for all of CloudWatch: they are written and read here, and go the way of all calls of the
//! SDK (connections, proxies, retries).

mod put;
mod storage;

use std::time::{Duration, SystemTime};

use aws_credential_types::{Credentials, provider::ProvideCredentials as _};
use aws_runtime::retries::classifiers::AwsErrorCodeClassifier;
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

pub use self::put::Datum;
use crate::{
    client::{Aws, is_whole},
    error::{Call, Error},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// CloudWatch in one region.
#[derive(Debug, Clone)]
pub struct CloudWatch {
    config: SdkConfig,
    region: String,
    endpoint: String,
}

/// How often a call is tried. Nobody waits long for either: what one says is advice, and the other comes again.
#[derive(Debug, Clone, Copy)]
struct Patience {
    attempts: u32,
    altogether: Duration,
}

impl CloudWatch {
    /// Where the SDK's settings say it is.
    #[must_use]
    pub fn of(aws: &Aws) -> Self {
        let (config, region) = (aws.config().clone(), aws.region().to_owned());
        let endpoint = configured_endpoint(&config).unwrap_or_else(|| {
            let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
            format!("https://monitoring.{region}.amazonaws.com{suffix}")
        });
        Self { config, region, endpoint: endpoint.trim_end_matches('/').to_owned() }
    }

    /// Sends a form, and reads the answer.
    async fn call<T: std::fmt::Debug + Send + Sync + 'static>(
        &self,
        call: Call,
        form: String,
        patience: Patience,
        read: fn(&str) -> Result<T, XmlDecodeError>,
    ) -> Result<T, Error> {
        let credentials = self
            .config
            .credentials_provider()
            .ok_or_else(|| Error::NoCredentials { tried: "no source of credentials is configured".to_owned() })?;
        let credentials = credentials.provide_credentials().await.map_err(|error| Error::from_credentials(&error))?;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(patience.altogether)
            .build();
        let (endpoint, region) = (self.endpoint.clone(), self.region.clone());
        let operation = Operation::builder()
            .service_name("cloudwatch")
            .operation_name(call.action)
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&self.endpoint)
            .no_auth()
            .standard_retry(&RetryConfig::standard().with_max_attempts(patience.attempts))
            .retry_classifier(AwsErrorCodeClassifier::<ErrorMetadata>::new())
            .retry_classifier(HttpStatusCodeClassifier::default())
            .retry_classifier(TransientErrorClassifier::<ErrorMetadata>::new())
            .timeout_config(timeouts)
            .serializer(move |form| request(form, &endpoint, &region, &credentials))
            .deserializer(move |response| answer(response, read))
            .build();
        operation.invoke(form).await.map_err(|error| Error::from_sdk(call, &error))
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

fn answer<T>(
    response: &HttpResponse,
    read: fn(&str) -> Result<T, XmlDecodeError>,
) -> Result<T, OrchestratorError<ErrorMetadata>> {
    let body = response.body().bytes().unwrap_or_default();
    let text = std::str::from_utf8(body).map_err(|error| OrchestratorError::response(error.into()))?;
    if !response.status().is_success() {
        return Err(OrchestratorError::operation(refusal(text)));
    }
    if !is_whole(body) {
        return Err(OrchestratorError::response("the answer is cut off".into()));
    }
    read(text).map_err(|error| OrchestratorError::response(error.into()))
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

/// Of a form: everything but what never has a meaning there.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_the_code_of_the_service() {
        let text = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>User: x &amp; y</Message></Error></ErrorResponse>";
        let refused = refusal(text);
        assert_eq!((refused.code(), refused.message()), (Some("AccessDenied"), Some("User: x & y")));
        assert_eq!(refusal("<html>").code(), None);
        assert_eq!(refusal("busy").code(), None);
    }

    #[test]
    fn a_form_holds_any_text() {
        assert_eq!(escape("Bytes/Second"), "Bytes%2FSecond");
        assert_eq!(escape("café & =+"), "caf%C3%A9%20%26%20%3D%2B");
    }
}
