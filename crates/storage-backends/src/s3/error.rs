//! What an answer of a store means for a caller.

use std::error::Error as StdError;
use std::fmt::Write as _;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::http::find;
use crate::error::ErrorKind;

/// How much of what a store says is passed on.
const MAX_MESSAGE_CHARS: usize = 300;

/// Why a request failed. `attempts` is how often it was tried at most.
///
/// The error of the SDK is not kept: its `Debug` has the whole answer, and some stores quote in it what was signed.
pub(super) fn explain<E: ProvideErrorMetadata>(
    error: &SdkError<E, HttpResponse>,
    attempts: u32,
) -> (ErrorKind, String) {
    let tried = if attempts == 1 { "tried once".to_owned() } else { format!("tried {attempts} times") };
    match error {
        SdkError::TimeoutError(_) => (ErrorKind::Unavailable, format!("it does not answer in time ({tried})")),
        SdkError::DispatchFailure(failure) => {
            let cause = failure.as_connector_error().and_then(StdError::source);
            let Some(cause) = cause else { return (ErrorKind::Unavailable, format!("it cannot be reached ({tried})")) };
            match find::<rustls::Error>(cause) {
                Some(rustls::Error::InvalidCertificate(why)) => {
                    (ErrorKind::Untrusted, format!("its certificate is not trusted: {why}"))
                }
                Some(rustls::Error::InvalidMessage(_)) => {
                    (ErrorKind::Other, "it does not speak TLS; is it `http://` rather than `https://`?".into())
                }
                Some(why) => (ErrorKind::Other, format!("TLS with it fails: {why}")),
                None => (ErrorKind::Unavailable, format!("{} ({tried})", chain(cause))),
            }
        }
        SdkError::ResponseError(broken) => {
            let status = broken.raw().status().as_u16();
            let kind = if status >= 500 { ErrorKind::Unavailable } else { ErrorKind::Other };
            (kind, format!("its answer makes no sense (status {status})"))
        }
        SdkError::ServiceError(refusal) => {
            let status = refusal.raw().status().as_u16();
            let (code, message) = (error.code(), error.message().unwrap_or_default());
            let kind = kind_of(code.unwrap_or_default(), status, message);
            let mut why = match own_words(code.unwrap_or_default()) {
                _ if kind == ErrorKind::Retained => "it is locked".into(),
                Some(words) => words.to_owned(),
                None => "the store refuses".into(),
            };
            let code = code.map(|code| code.chars().filter(|c| !c.is_control()).take(80).collect::<String>());
            let _ = match code {
                Some(code) => write!(why, " (`{code}`, status {status})"),
                None => write!(why, " (status {status})"),
            };
            if !message.is_empty() {
                let message: String = message.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE_CHARS).collect();
                let _ = write!(why, ": {message}");
            }
            if kind == ErrorKind::Unavailable {
                let _ = write!(why, " ({tried})");
            }
            (kind, why)
        }
        // The request itself could not be made.
        _ => (ErrorKind::Other, "the request cannot be made".into()),
    }
}

/// What is known of a code beyond what stores say about it.
fn own_words(code: &str) -> Option<&'static str> {
    Some(match code {
        "NoSuchBucket" => "there is no such bucket",
        "NoSuchKey" => "there is no such object",
        "NoSuchUpload" => "the upload was ended or removed meanwhile",
        "InvalidAccessKeyId" => "the store does not know the access key",
        "SignatureDoesNotMatch" => "the secret key does not belong to the access key",
        "ExpiredToken" => "the session token has expired",
        "InvalidToken" => "the session token is not valid",
        "RequestTimeTooSkewed" => "the clock of this machine or that of the store is wrong",
        "AuthorizationHeaderMalformed" => "the store expects another region",
        "AccessDenied" => "the access key may not do it",
        "PreconditionFailed" => "the name is taken",
        "KeyTooLongError" => "the name is longer than the store allows",
        _ => return None,
    })
}

fn kind_of(code: &str, status: u16, message: &str) -> ErrorKind {
    let says = |word: &str| message.to_ascii_lowercase().contains(word);
    match code {
        "NoSuchBucket" | "NoSuchKey" | "NotFound" => ErrorKind::NotFound,
        "NoSuchUpload" | "IncompleteBody" | "BadDigest" | "InvalidPart" => ErrorKind::Incomplete,
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "RequestTimeTooSkewed"
        | "AuthorizationHeaderMalformed" => ErrorKind::Credentials,
        "QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" | "InsufficientCapacity" => {
            ErrorKind::NoSpace
        }
        "ObjectLocked" => ErrorKind::Retained,
        "AccessDenied" | "InvalidRequest"
            if says("worm") || says("object lock") || says("retention") || says("retained") =>
        {
            // "Bucket is missing Object Lock Configuration"
            if says("missing") { ErrorKind::NotSupported } else { ErrorKind::Retained }
        }
        "InvalidBucketState" | "ObjectLockConfigurationNotFoundError" | "NotImplemented" | "MethodNotAllowed" => {
            ErrorKind::NotSupported
        }
        "PreconditionFailed" => ErrorKind::AlreadyExists,
        "KeyTooLongError" | "XMinioInvalidObjectName" | "XMinioParentIsObject" => ErrorKind::InvalidKey,
        // Two requests at once; either may be the one that is refused.
        "ConditionalRequestConflict" | "OperationAborted" | "SlowDown" | "RequestTimeout" => ErrorKind::Unavailable,
        _ => match status {
            401 => ErrorKind::Credentials,
            403 => ErrorKind::PermissionDenied,
            404 => ErrorKind::NotFound,
            405 | 501 => ErrorKind::NotSupported,
            412 => ErrorKind::AlreadyExists,
            507 => ErrorKind::NoSpace,
            408 | 429 | 500.. => ErrorKind::Unavailable,
            _ => ErrorKind::Other,
        },
    }
}

/// An error and its causes, in a line.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            let _ = write!(text, ": {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_says_is_cut_by_what_can_be_done() {
        use ErrorKind::*;
        for (code, status, message, kind) in [
            ("NoSuchBucket", 404, "", NotFound),
            ("", 404, "", NotFound),
            ("AccessDenied", 403, "", PermissionDenied),
            ("AccessDenied", 403, "Access Denied because object protected by object lock.", Retained),
            ("InvalidRequest", 400, "Object is WORM protected and cannot be overwritten", Retained),
            ("InvalidRequest", 400, "Bucket is missing Object Lock Configuration", NotSupported),
            ("InvalidRequest", 400, "something else", Other),
            ("SignatureDoesNotMatch", 403, "", Credentials),
            ("ExpiredToken", 400, "", Credentials),
            ("QuotaExceeded", 403, "", NoSpace),
            ("", 507, "", NoSpace),
            ("", 503, "", Unavailable),
            ("InternalError", 500, "", Unavailable),
            ("SlowDown", 429, "", Unavailable),
            ("NotImplemented", 501, "", NotSupported),
            ("PreconditionFailed", 412, "", AlreadyExists),
        ] {
            assert_eq!(kind_of(code, status, message), kind, "{code} {status} {message}");
        }
    }
}
