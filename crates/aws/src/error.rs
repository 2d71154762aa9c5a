//! What can go wrong between this program and AWS, and what to do about it.
//!
//! ```text
//!  SdkError ── code of the service ─┐
//!           ── credentials, socket ─┼─> Error ── is_transient(): try again, or stop
//!           ── unreadable answer   ─┘         └─> help: the operator's next step
//! ```
//!
//! Decisions rest on error codes. The one message that is read is that of a denied call, since only it says which
//! action on which resource was meant; without it the action that was called is named. A refused signature means a wrong
//! key or a wrong clock: the date of the answer tells which.

use std::{
    error, fmt,
    time::{Duration, SystemTime},
};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_rds::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    primitives::{DateTime, DateTimeFormat},
};

/// An action of a service, as IAM policies name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// `rds`, `secretsmanager`, …
    pub service: &'static str,
    /// `DescribeDBInstances`, …
    pub action: &'static str,
}

impl Call {
    /// An action of RDS.
    #[must_use]
    pub const fn rds(action: &'static str) -> Self {
        Self { service: "rds", action }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service, self.action)
    }
}

/// A call to AWS failed, or could not be made.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// Nothing says which region is meant.
    #[error("no AWS region is set")]
    #[diagnostic(
        code(aws::no_region),
        help("give --region, set AWS_REGION, or name a region in the profile of ~/.aws/config")
    )]
    NoRegion,
    /// Nothing gives credentials.
    #[error("no AWS credentials: {tried}")]
    #[diagnostic(
        code(aws::no_credentials),
        help(
            "run `aws sso login`, set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the task a role"
        )
    )]
    NoCredentials {
        /// What was looked at.
        tried: String,
    },
    /// Credentials were found and are over.
    #[error("{call}: the AWS credentials have expired")]
    #[diagnostic(
        code(aws::expired_credentials),
        help(
            "renew them (`aws sso login`, or assume the role again), then run the same command: it goes on where it stopped"
        )
    )]
    Expired {
        /// What was asked.
        call: Call,
    },
    /// AWS does not know these credentials.
    #[error("{call}: AWS does not accept the credentials ({code})")]
    #[diagnostic(
        code(aws::invalid_credentials),
        help(
            "is the key active, the secret key complete, and AWS_SESSION_TOKEN set where the key is temporary (ASIA…)?"
        )
    )]
    Invalid {
        /// What was asked.
        call: Call,
        /// The service's word for it.
        code: String,
    },
    /// The clock of this machine is wrong.
    #[error("{call}: the clock of this machine is too far from that of AWS")]
    #[diagnostic(
        code(aws::clock_skew),
        help("set the clock (`timedatectl set-ntp true`), then run the same command again")
    )]
    ClockSkew {
        /// What was asked.
        call: Call,
    },
    /// The identity may not do this.
    #[error("{} may not call {action}{}", principal.as_deref().unwrap_or("this identity"), on(resource.as_deref()))]
    #[diagnostic(code(aws::access_denied), help("add to its policy: {}", statement(action, resource.as_deref())))]
    Denied {
        /// The denied action, which may be another than the one called.
        action: String,
        /// On what, where AWS says it.
        resource: Option<String>,
        /// Who, where AWS says it.
        principal: Option<String>,
    },
    /// Too many calls.
    #[error("{call}: AWS throttled the call, also when it was tried again")]
    #[diagnostic(
        code(aws::throttled),
        help(
            "other programs use up the account's quota: wait a minute, then run the same command again; AWS_MAX_ATTEMPTS raises the number of attempts"
        )
    )]
    Throttled {
        /// What was asked.
        call: Call,
    },
    /// No way to the endpoint.
    #[error("{call}: AWS cannot be reached: {problem}")]
    #[diagnostic(
        code(aws::unreachable),
        help(
            "check the region, AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_*, HTTPS_PROXY, and the route: a private subnet needs a NAT gateway or an interface endpoint of the service"
        )
    )]
    Unreachable {
        /// What was asked.
        call: Call,
        /// What the network said.
        problem: String,
    },
    /// No answer in time.
    #[error("{call}: AWS did not answer in time")]
    #[diagnostic(
        code(aws::timeout),
        help("run the same command again; if it stays so, check the route to the endpoint")
    )]
    Timeout {
        /// What was asked.
        call: Call,
    },
    /// The service failed.
    #[error("{call}: AWS failed ({code}), also when it was tried again")]
    #[diagnostic(code(aws::unavailable), help("see https://health.aws.amazon.com, then run the same command again"))]
    Unavailable {
        /// What was asked.
        call: Call,
        /// Its code, or the HTTP status.
        code: String,
    },
    /// The answer cannot be read.
    #[error("{call}: the answer cannot be read: {problem}")]
    #[diagnostic(
        code(aws::unreadable_answer),
        help(
            "is there a proxy between, or is AWS_ENDPOINT_URL something else than this service? Run the same command again"
        )
    )]
    Unreadable {
        /// What was asked.
        call: Call,
        /// What is wrong with it.
        problem: String,
    },
    /// The service refused, with a code of its own.
    #[error("{call}: {message} ({code})")]
    #[diagnostic(code(aws::refused), help("mend what the message names, then run the same command again"))]
    Refused {
        /// What was asked.
        call: Call,
        /// `DBInstanceNotFound`, `InvalidParameterValue`, …
        code: String,
        /// The service's text.
        message: String,
    },
}

/// RDS's word for a wrong secret key, and for a signature of another time.
const SIGNATURE_WRONG: &str = "SignatureDoesNotMatch";

/// The same in Secrets Manager.
const SIGNATURE_INVALID: &str = "InvalidSignatureException";

/// Signatures that are more than five minutes off are refused; a minute less leaves room for the way.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(4 * 60);

/// Whether the answer was written at quite another time than it is here.
fn is_clock_off(date: Option<&str>, here: SystemTime) -> bool {
    let there = date.and_then(|text| DateTime::from_str(text, DateTimeFormat::HttpDate).ok());
    let Some(there) = there.and_then(|there| SystemTime::try_from(there).ok()) else { return false };
    let apart = there.duration_since(here).unwrap_or_else(|earlier| earlier.duration());
    apart > CLOCK_TOLERANCE
}

fn on(resource: Option<&str>) -> String {
    resource.map(|resource| format!(" on {resource}")).unwrap_or_default()
}

/// The line for a policy; without a known resource the reader has to narrow it.
fn statement(action: &str, resource: Option<&str>) -> String {
    let resource = resource.unwrap_or("*");
    format!(r#"{{"Effect": "Allow", "Action": "{action}", "Resource": "{resource}"}}"#)
}

impl Error {
    /// Whether the same call may succeed a moment later, without anybody doing something.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Throttled { .. }
                | Self::Unreachable { .. }
                | Self::Timeout { .. }
                | Self::Unavailable { .. }
                | Self::Unreadable { .. }
        )
    }

    /// The code that the service gave, when it refused for a reason of its own.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// What a failed call means.
    pub(crate) fn from_sdk<E>(call: Call, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: error::Error + ProvideErrorMetadata + 'static,
    {
        if let Some(credentials) = credentials_error(error) {
            return Self::from_credentials(credentials);
        }
        match error {
            SdkError::ServiceError(context) => {
                let status = context.raw().status().as_u16();
                let (code, message) = (context.err().code(), context.err().message());
                let date = context.raw().headers().get("date");
                match code {
                    Some(SIGNATURE_WRONG | SIGNATURE_INVALID) if is_clock_off(date, SystemTime::now()) => {
                        Self::ClockSkew { call }
                    }
                    _ => Self::from_service(call, status, code, message),
                }
            }
            SdkError::TimeoutError(_) => Self::Timeout { call },
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Self::Timeout { call },
            SdkError::DispatchFailure(_) => Self::Unreachable { call, problem: root_cause(error) },
            SdkError::ResponseError(context) if context.raw().status().as_u16() >= 500 => {
                Self::Unavailable { call, code: format!("HTTP {}", context.raw().status().as_u16()) }
            }
            SdkError::ResponseError(_) => Self::Unreadable { call, problem: root_cause(error) },
            _ => Self::Unreachable { call, problem: root_cause(error) },
        }
    }

    fn from_service(call: Call, status: u16, code: Option<&str>, message: Option<&str>) -> Self {
        let message = message.unwrap_or_default();
        match code {
            Some("AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" | "NotAuthorized") => {
                let denial = Denial::read(message);
                Self::Denied {
                    action: denial.action.map_or_else(|| call.to_string(), str::to_owned),
                    resource: denial.resource.map(str::to_owned),
                    principal: denial.principal.map(str::to_owned),
                }
            }
            Some("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired") => Self::Expired { call },
            Some("RequestExpired" | "RequestTimeTooSkewed" | "RequestInTheFuture" | "InvalidSignatureTimestamp") => {
                Self::ClockSkew { call }
            }
            Some(
                code @ ("InvalidClientTokenId"
                | "UnrecognizedClientException"
                | SIGNATURE_WRONG
                | SIGNATURE_INVALID
                | "IncompleteSignature"
                | "MissingAuthenticationToken"
                | "InvalidAccessKeyId"
                | "AuthFailure"
                | "OptInRequired"),
            ) => Self::Invalid { call, code: code.to_owned() },
            Some(code) if THROTTLING.contains(&code) => Self::Throttled { call },
            None if status == 429 => Self::Throttled { call },
            code if status >= 500 => {
                Self::Unavailable { call, code: code.map_or_else(|| format!("HTTP {status}"), str::to_owned) }
            }
            Some(code) => Self::Refused { call, code: code.to_owned(), message: message.to_owned() },
            None => Self::Unreadable { call, problem: format!("HTTP {status}, and not what the service says") },
        }
    }

    /// What it means that credentials could not be had.
    pub(crate) fn from_credentials(error: &CredentialsError) -> Self {
        Self::NoCredentials { tried: chain(error).join(": ") }
    }
}

/// What the services answer when they are asked too often.
const THROTTLING: &[&str] = &[
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "LimitExceededException",
    "SlowDown",
];

/// The parts of "User: ARN is not authorized to perform: ACTION on resource: ARN because …".
#[derive(Debug, PartialEq, Eq)]
struct Denial<'a> {
    principal: Option<&'a str>,
    action: Option<&'a str>,
    resource: Option<&'a str>,
}

impl<'a> Denial<'a> {
    fn read(message: &'a str) -> Self {
        let word = |after: &str| {
            let (_, rest) = message.split_once(after)?;
            rest.split_whitespace().next().map(|word| word.trim_end_matches(['.', ',']))
        };
        Self {
            principal: word("User: "),
            action: word("to perform: ").filter(|action| action.contains(':')),
            resource: word("on resource: ").filter(|resource| resource.starts_with("arn:")),
        }
    }
}

/// The missing credentials somewhere below a failed call.
fn credentials_error<'a>(error: &'a (dyn error::Error + 'static)) -> Option<&'a CredentialsError> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<CredentialsError>() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

/// Texts of an error and its causes, without those that repeat the one before.
fn chain(error: &(dyn error::Error + 'static)) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if texts.last().is_none_or(|last| !last.contains(&text)) {
            texts.push(text);
        }
        next = cause.source();
    }
    texts
}

/// The innermost cause: the outer ones only say that a call failed.
fn root_cause(error: &(dyn error::Error + 'static)) -> String {
    chain(error).pop().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use miette::Diagnostic as _;

    use super::*;

    const CALL: Call = Call::rds("ModifyDBInstance");

    fn refused(code: &str, message: &str) -> Error {
        Error::from_service(CALL, 400, Some(code), Some(message))
    }

    #[test]
    fn a_denied_call_names_the_policy_line_that_is_missing() {
        let error = refused(
            "AccessDenied",
            "User: arn:aws:sts::123456789012:assumed-role/ops/me is not authorized to perform: rds:ModifyDBInstance on resource: \
             arn:aws:rds:eu-west-1:123456789012:pg:pgstream-shop because no identity-based policy allows the rds:ModifyDBInstance action",
        );
        assert_eq!(
            error.to_string(),
            "arn:aws:sts::123456789012:assumed-role/ops/me may not call rds:ModifyDBInstance on \
             arn:aws:rds:eu-west-1:123456789012:pg:pgstream-shop"
        );
        assert_eq!(
            error.help().map(|help| help.to_string()).unwrap_or_default(),
            r#"add to its policy: {"Effect": "Allow", "Action": "rds:ModifyDBInstance", "Resource": "arn:aws:rds:eu-west-1:123456789012:pg:pgstream-shop"}"#
        );
    }

    #[test]
    fn a_denied_call_without_a_readable_message_names_what_was_called() {
        let error = refused("AccessDenied", "no");
        assert_eq!(error.to_string(), "this identity may not call rds:ModifyDBInstance");
    }

    #[test]
    fn codes_decide_what_is_tried_again() {
        for code in ["Throttling", "RequestLimitExceeded", "ThrottlingException"] {
            assert!(matches!(refused(code, ""), Error::Throttled { .. }), "{code}");
            assert!(refused(code, "").is_transient());
        }
        assert!(Error::from_service(CALL, 503, None, None).is_transient());
        assert!(Error::from_service(CALL, 500, Some("InternalFailure"), None).is_transient());
        for code in ["ExpiredToken", "RequestExpired", "InvalidClientTokenId", "AccessDenied", "DBInstanceNotFound"] {
            assert!(!refused(code, "").is_transient(), "{code}");
        }
        assert_eq!(refused("DBInstanceNotFound", "").refusal(), Some("DBInstanceNotFound"));
    }

    #[test]
    fn a_signature_is_refused_for_the_clock_only_when_the_clocks_differ() {
        let here = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        assert!(!is_clock_off(Some("Thu, 01 Jan 2026 00:03:00 GMT"), here));
        assert!(is_clock_off(Some("Thu, 01 Jan 2026 00:06:00 GMT"), here));
        assert!(is_clock_off(Some("Wed, 31 Dec 2025 23:00:00 GMT"), here));
        assert!(!is_clock_off(None, here) && !is_clock_off(Some("today"), here));
    }

    #[test]
    fn a_page_that_is_not_of_the_service_is_unreadable() {
        assert!(matches!(Error::from_service(CALL, 404, None, None), Error::Unreadable { .. }));
    }
}
