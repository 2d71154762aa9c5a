//! Reading and writing secrets.

use std::fmt;

use aws_sdk_secretsmanager::{Client, error::ProvideErrorMetadata as _, operation::RequestId as _};
use secrecy::{ExposeSecret as _, SecretString};

use super::SecretError;
use crate::{Aws, Call, Error};

/// Which version of a secret is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// What logins use.
    Current,
    /// What a rotation is about to make current; the server may know it already.
    Pending,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Current => "AWSCURRENT",
            Self::Pending => "AWSPENDING",
        })
    }
}

/// Secrets Manager in one region. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    client: Client,
    region: String,
}

impl Store {
    /// The store in which this secret is: an ARN names its region.
    #[must_use]
    pub fn of(aws: &Aws, secret: &str) -> Self {
        let aws = match region_of_arn(secret) {
            Some(region) => aws.in_region(region),
            None => aws.clone(),
        };
        Self { client: Client::new(aws.config()), region: aws.region().to_owned() }
    }

    /// The text of a version.
    ///
    /// # Errors
    /// It is not there, not text, or not to be read by this identity.
    pub async fn read(&self, secret: &str, stage: Stage) -> Result<SecretString, SecretError> {
        let request = self.client.get_secret_value().secret_id(secret).version_stage(stage.to_string());
        let answer = request.send().await.map_err(|error| {
            let said = (error.code().unwrap_or_default(), error.message().unwrap_or_default());
            let meaning = refusal(secret, &self.region, stage, said);
            tracing::debug!(secret, %stage, code = said.0, request = error.request_id(), "the secret was not given");
            meaning.unwrap_or_else(|| failed(secret, "GetSecretValue", &error))
        })?;
        match answer.secret_string {
            Some(text) => Ok(text.into()),
            None => Err(SecretError::Binary { secret: secret.to_owned() }),
        }
    }

    /// Its tags, by which RDS says what a secret that it manages belongs to.
    ///
    /// # Errors
    /// It is not there, or not to be described by this identity.
    pub async fn tags(&self, secret: &str) -> Result<Vec<(String, String)>, SecretError> {
        let answer = self.client.describe_secret().secret_id(secret).send().await;
        let answer = answer.map_err(|error| {
            let said = (error.code().unwrap_or_default(), error.message().unwrap_or_default());
            refusal(secret, &self.region, Stage::Current, said)
                .unwrap_or_else(|| failed(secret, "DescribeSecret", &error))
        })?;
        let pair = |tag: aws_sdk_secretsmanager::types::Tag| Some((tag.key?, tag.value?));
        Ok(answer.tags.unwrap_or_default().into_iter().filter_map(pair).collect())
    }

    /// Makes a secret, or gives the one that exists a new current version.
    ///
    /// # Errors
    /// This identity may not, or AWS fails.
    pub async fn write(&self, secret: &str, text: &SecretString) -> Result<(), SecretError> {
        let created = self
            .client
            .create_secret()
            .name(secret)
            .description("Login of a database role, made by pgstream-aws users apply")
            .secret_string(text.expose_secret())
            .send()
            .await;
        match created {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("ResourceExistsException") => {
                let request = self.client.put_secret_value().secret_id(secret).secret_string(text.expose_secret());
                request.send().await.map(drop).map_err(|error| failed(secret, "PutSecretValue", &error))
            }
            Err(error) => Err(failed(secret, "CreateSecret", &error)),
        }
    }
}

fn failed<E>(
    secret: &str,
    action: &'static str,
    error: &aws_sdk_secretsmanager::error::SdkError<E, aws_sdk_secretsmanager::config::http::HttpResponse>,
) -> SecretError
where
    E: std::error::Error + aws_sdk_secretsmanager::error::ProvideErrorMetadata + 'static,
{
    let call = Call { service: "secretsmanager", action };
    SecretError::Aws(match Error::from_sdk(call, error) {
        // The line for the policy is better off with what was asked for.
        Error::Denied { action, resource: None, principal } if secret.starts_with("arn:") => {
            Error::Denied { action, resource: Some(secret.to_owned()), principal }
        }
        other => other,
    })
}

/// The answers of the service that are about this secret and not about the call.
fn refusal(secret: &str, region: &str, stage: Stage, (code, message): (&str, &str)) -> Option<SecretError> {
    let secret = secret.to_owned();
    match code {
        // "Secrets Manager can't find the specified secret value for staging label: …": the secret is there.
        "ResourceNotFoundException" if message.contains("staging label") => {
            Some(SecretError::NoVersion { secret, stage })
        }
        "ResourceNotFoundException" => Some(SecretError::NotFound { secret, region: region.to_owned() }),
        "InvalidRequestException" if message.contains("deleted") || message.contains("deletion") => {
            Some(SecretError::Deleted { secret })
        }
        "DecryptionFailure" => Some(SecretError::Kms { secret }),
        // "Access to KMS is not allowed": the same code as for the secret itself.
        "AccessDeniedException" if message.contains("KMS") || message.contains("kms:") => {
            Some(SecretError::Kms { secret })
        }
        _ => None,
    }
}

fn region_of_arn(secret: &str) -> Option<&str> {
    secret.strip_prefix("arn:")?.split(':').nth(2).filter(|region| !region.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_apart_by_what_they_are_about() {
        let kind =
            |code, message| refusal("s", "eu-west-1", Stage::Pending, (code, message)).map(|error| error.to_string());
        let absent = "Secrets Manager can't find the specified secret";
        let label = "Secrets Manager can't find the specified secret value for staging label: AWSPENDING";
        assert_eq!(kind("ResourceNotFoundException", absent).unwrap(), "there is no secret `s` in region eu-west-1");
        assert_eq!(
            kind("ResourceNotFoundException", label).unwrap(),
            "secret `s` has no version with the stage AWSPENDING"
        );
        assert!(kind("AccessDeniedException", "Access to KMS is not allowed").unwrap().contains("KMS key"));
        assert!(kind("DecryptionFailure", "").unwrap().contains("KMS key"));
        assert!(kind("AccessDeniedException", "User: x is not authorized to perform: y").is_none());
        assert!(kind("InvalidRequestException", "because it was marked for deletion.").unwrap().contains("deletion"));
    }

    #[test]
    fn an_arn_says_where_the_secret_is() {
        assert_eq!(region_of_arn("arn:aws:secretsmanager:eu-west-1:1:secret:x"), Some("eu-west-1"));
        assert_eq!(region_of_arn("shop/source"), None);
    }
}
