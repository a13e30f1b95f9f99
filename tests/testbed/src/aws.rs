//! AWS SDK clients for the emulated AWS. A plain-http URL enters, a client leaves: region eu-west-1, made-up credentials,
//! nothing read from the environment or `~/.aws`. It must never talk to the real AWS, so an endpoint is always set.

use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider, retry::RetryConfig};
use aws_types::SdkConfig;

/// The region of all that the testbed puts into the emulated AWS.
pub const REGION: &str = "eu-west-1";

/// The account of all that, moto's own.
pub const ACCOUNT: &str = "123456789012";

/// The access key id that the emulated AWS is used with; it accepts any.
pub const ACCESS_KEY_ID: &str = "testbed";

/// The secret access key that goes with [`ACCESS_KEY_ID`].
pub const SECRET_ACCESS_KEY: &str = "testbed";

/// What all clients for `url` have in common. None retries, so that one call is one request.
fn config(url: &str) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static(REGION))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(ACCESS_KEY_ID, SECRET_ACCESS_KEY, None, None, "testbed")))
        .retry_config(RetryConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(url)
        .build()
}

/// A Secrets Manager client for `url`, for instance `http://127.0.0.1:5000`. It doesn't retry, so that one call is one request.
#[must_use]
pub fn secrets_manager(url: &str) -> aws_sdk_secretsmanager::Client {
    aws_sdk_secretsmanager::Client::new(&config(url))
}

/// A Parameter Store client for `url`; otherwise as [`secrets_manager`].
#[must_use]
pub fn ssm(url: &str) -> aws_sdk_ssm::Client {
    aws_sdk_ssm::Client::new(&config(url))
}

/// An STS client for `url`; otherwise as [`secrets_manager`].
#[must_use]
pub fn sts(url: &str) -> aws_sdk_sts::Client {
    aws_sdk_sts::Client::new(&config(url))
}
