//! Logins with IAM tokens.
//!
//! ```text
//!  connect ─> sign(host, port, user) with the credentials of this process ─> password, good for 15 minutes
//! ```
//!
//! Signing is local and cheap, and a token is checked at the login only: each login gets its own.

use std::fmt;

use aws_sdk_rds::auth_token::{AuthTokenGenerator, Config};
use aws_types::region::Region;
use pgstream_postgres::{
    Class, Credentials, CredentialsError, CredentialsFuture, CredentialsRequest, PasswordProvider,
};

use crate::Aws;

/// Signs a token for each login.
#[derive(Clone)]
pub struct TokenPassword {
    aws: Aws,
}

impl TokenPassword {
    /// Signs with these credentials.
    #[must_use]
    pub fn new(aws: Aws) -> Self {
        Self { aws }
    }

    async fn token(&self, request: CredentialsRequest<'_>) -> Result<String, CredentialsError> {
        // The same identity gets the same answer, but for a clock that was behind: one more.
        if let Some(refusal) = request.refusal.filter(|refusal| refusal.count > 1) {
            return Err(refused(request, refusal.said));
        }
        let host = request.host.trim_end_matches('.').to_ascii_lowercase();
        let region = region_of_host(&host).unwrap_or_else(|| self.aws.region());
        let unsigned = |problem: String, class| CredentialsError {
            problem: format!("no IAM token for {}@{host}: {problem}", request.user),
            class,
            help: Some("check the credentials of this process: aws sts get-caller-identity".to_owned()),
        };
        let config = Config::builder()
            .hostname(&host)
            .port(u64::from(request.port))
            .username(encode(request.user))
            .region(Region::new(region.to_owned()))
            .build()
            .map_err(|error| unsigned(error.to_string(), Class::Config))?;
        let token = AuthTokenGenerator::new(config).auth_token(self.aws.config()).await;
        // Credentials of a task come over the network: it may work in a moment.
        Ok(token.map_err(|error| unsigned(error.to_string(), Class::Transient))?.to_string())
    }
}

fn refused(request: CredentialsRequest<'_>, said: &str) -> CredentialsError {
    let user = request.user;
    let (subject, help) = match request.replication {
        true => (
            "an IAM token for a replication connection",
            format!(
                "RDS accepts tokens for replication only with rds.iam_auth_for_replication = 1 in the parameter group; without it, use \
                 a secret (aws.source.secret) and a user without rds_iam. Otherwise: GRANT rds_iam TO \"{user}\", and allow \
                 rds-db:connect on arn:aws:rds-db:<region>:<account>:dbuser:<resource id>/{user}"
            ),
        ),
        false => (
            "an IAM token",
            format!(
                "IAM authentication must be enabled on the instance or cluster; GRANT rds_iam TO \"{user}\"; allow rds-db:connect on \
                 arn:aws:rds-db:<region>:<account>:dbuser:<resource id>/{user}; and the URL must name the real endpoint, which the \
                 token is signed for"
            ),
        ),
    };
    CredentialsError {
        problem: format!("the server refuses {subject} of `{user}`: {said}"),
        class: Class::Setup,
        help: Some(help),
    }
}

/// `name.id.REGION.rds.amazonaws.com`, in China also `name.id.rds.REGION.amazonaws.com.cn`.
fn region_of_host(host: &str) -> Option<&str> {
    let rest = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    let labels: Vec<_> = rest.split('.').collect();
    match labels.as_slice() {
        [.., region, "rds"] | [.., "rds", region] => Some(region),
        _ => None,
    }
}

/// The signer puts the name into a URL as it is.
fn encode(user: &str) -> String {
    user.bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

impl PasswordProvider for TokenPassword {
    fn credentials<'a>(&'a self, request: CredentialsRequest<'a>) -> CredentialsFuture<'a> {
        Box::pin(async move {
            let token = Box::pin(self.token(request)).await?;
            Ok(Credentials { user: None, password: token.into() })
        })
    }
}

impl fmt::Debug for TokenPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenPassword")
    }
}

#[cfg(test)]
mod tests {
    use aws_config::{BehaviorVersion, SdkConfig};
    use aws_credential_types::{Credentials as Keys, provider::SharedCredentialsProvider};
    use pgstream_postgres::Refusal;
    use secrecy::ExposeSecret as _;

    use super::*;

    fn request<'a>(host: &'a str, user: &'a str) -> CredentialsRequest<'a> {
        CredentialsRequest { host, port: 5432, user, dbname: "d", replication: false, refusal: None }
    }

    async fn provider() -> TokenPassword {
        let keys = Keys::new("AKID", "CANARY", Some("SESSION".repeat(200)), None, "test");
        let config: SdkConfig = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(keys))
            .load()
            .await;
        TokenPassword::new(Aws::from_config(config, "us-east-1"))
    }

    #[tokio::test]
    async fn a_token_is_signed_for_the_endpoint_and_its_region() {
        let host = "shop.abc.eu-west-1.rds.amazonaws.com";
        let token = provider().await.credentials(request(host, "a b")).await.unwrap();
        let token = token.password.expose_secret();
        assert!(token.starts_with(&format!("{host}:5432/?Action=connect&DBUser=a%20b&")), "{token}");
        assert!(
            token.contains("%2Feu-west-1%2Frds-db%2Faws4_request") && token.contains("X-Amz-Expires=900"),
            "{token}"
        );
        assert!(token.len() > 1024 && !token.contains("CANARY"));
    }

    #[tokio::test]
    async fn a_refused_token_says_what_has_to_be_set_and_for_replication_the_parameter() {
        let refusal = Some(Refusal { count: 2, said: "28P01: PAM authentication failed" });
        let mut request = CredentialsRequest { refusal, ..request("h", "u") };
        let error = provider().await.credentials(request).await.unwrap_err();
        assert!(error.help.unwrap().contains("rds-db:connect"));
        request.replication = true;
        let error = provider().await.credentials(request).await.unwrap_err();
        assert!(error.help.unwrap().contains("rds.iam_auth_for_replication"));
        assert_eq!(error.class, Class::Setup);
    }

    #[test]
    fn the_host_says_its_region() {
        for (host, region) in [
            ("a.b.eu-west-1.rds.amazonaws.com", Some("eu-west-1")),
            ("a.b.cn-north-1.rds.amazonaws.com.cn", Some("cn-north-1")),
            ("a.b.rds.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("db.example.com", None),
        ] {
            assert_eq!(region_of_host(host), region, "{host}");
        }
    }
}
