//! Telling a monitoring service how a run went.

use std::time::Duration;

use secrecy::ExposeSecret as _;

use crate::config::Job;
use crate::failure::Failure;

const TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 3;

/// Asks for the URL of the job that is for this.
///
/// # Errors
///
/// Nobody answered that it was heard. The URL, which can hold a token, is not part of the error.
pub(crate) async fn tell(job: &Job, is_success: bool) -> Result<(), Failure> {
    let (name, url) = match is_success {
        true => ("success-url", &job.success_url),
        false => ("failure-url", &job.failure_url),
    };
    let Some(url) = url else { return Ok(()) };
    let failed = |e: reqwest::Error| {
        Failure::from(e.without_url()).context(format!("cannot tell the `{name}` how the run went"))
    };
    let client = reqwest::Client::builder().timeout(TIMEOUT).build().map_err(failed)?;
    let mut attempt = 1;
    loop {
        let answer = client.get(url.expose_secret().trim()).send().await.and_then(reqwest::Response::error_for_status);
        match answer {
            Ok(_) => return Ok(()),
            Err(e) if attempt == ATTEMPTS || e.is_builder() => return Err(failed(e)),
            Err(_) => tokio::time::sleep(Duration::from_secs(attempt.into())).await,
        }
        attempt += 1;
    }
}
