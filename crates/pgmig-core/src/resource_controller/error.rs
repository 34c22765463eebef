//! What can go wrong with the Resource Controller.

use std::fmt;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::config::{AccessToken, InstanceKind};
use crate::tls::{CaError, TlsFault};

/// How much of an answer is quoted, in characters.
const EXCERPT_CHARS: usize = 200;

/// The instances could not be listed.
///
/// No token is ever part of it, not even where the server sent one back.
#[derive(Debug)]
pub struct Error {
    url: String,
    token: Option<String>,
    attempts: u32,
    pub(super) kind: ErrorKind,
}

/// Why, cut by what the user can do.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file with certificates cannot be used.
    Ca(CaError),
    /// `type` in the configuration says one kind, the caller asks for another.
    KindConflict {
        /// What `type` says.
        configured: InstanceKind,
        /// What the caller asks for.
        asked: InstanceKind,
    },
    /// The request could not even be built.
    Setup {
        /// In the words of the library.
        reason: String,
    },
    /// Tokens are wrong or have expired.
    Unauthorized {
        /// All of them.
        tokens: Vec<RefusedToken>,
        /// How many tokens there are.
        of: usize,
    },
    /// The server is there, the listing is not (404).
    NotFound,
    /// The server sends us elsewhere; we do not go, because the token would go with us.
    Redirect {
        /// The HTTP status.
        status: u16,
        /// Where to.
        location: Option<String>,
    },
    /// The server answered with another status that is not a success.
    Status {
        /// The HTTP status.
        status: u16,
        /// The beginning of what it said.
        excerpt: Option<String>,
    },
    /// No answer, or not all of it, in time.
    Timeout {
        /// The limit.
        after: Duration,
    },
    /// The host name is unknown.
    Dns {
        /// In the words of the system.
        reason: String,
    },
    /// No connection.
    Unreachable {
        /// In the words of the system.
        reason: String,
    },
    /// The TLS handshake failed, mostly because of the certificate.
    Tls(TlsFault),
    /// The connection broke before the answer was complete.
    Interrupted {
        /// How many bytes of the answer's body had arrived.
        received: usize,
        /// In the words of the library.
        reason: String,
    },
    /// The answer is not the documented form.
    NotDocumented {
        /// What is wrong with it.
        reason: String,
        /// How it begins.
        excerpt: Option<String>,
    },
    /// The answer is larger than a page can be.
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// `next_url` leads to another server; the token was not sent there.
    NextUrlElsewhere {
        /// As the page has it.
        next_url: String,
    },
    /// `next_url` leads to a page that was read already.
    PageLoop {
        /// As the page has it.
        next_url: String,
    },
    /// The listing does not come to an end.
    TooManyPages {
        /// The limit.
        limit: usize,
    },
    /// A page does not carry as many instances as it says.
    RowsCount {
        /// The page, counted from 1.
        page: usize,
        /// What it says.
        rows_count: u64,
        /// What it carries.
        carried: usize,
    },
}

/// A token that the server did not accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedToken {
    /// Where it stands in the configuration, such as `accessTokens[1]`.
    pub key: String,
    /// The HTTP status, 401 or 403.
    pub status: u16,
}

impl Error {
    pub(super) fn new(url: String, kind: ErrorKind) -> Self {
        Self { url, token: None, attempts: 1, kind }
    }

    /// The error happened with the token that stands at `key`.
    pub(super) fn with_token(mut self, key: &str) -> Self {
        self.token = Some(key.to_owned());
        self
    }

    /// The error happened that many times.
    pub(super) fn after(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Why.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match &self.kind {
            ErrorKind::Ca(error) => return error.hint(),
            ErrorKind::KindConflict { configured, asked } => {
                return Some(format!(
                    "either ask for {configured} instances or write `type: {asked}` into the \
                     resource controller configuration"
                ));
            }
            ErrorKind::Setup { .. } => "check `host` in the resource controller configuration",
            ErrorKind::Unauthorized { .. } => {
                "bearer tokens expire: copy a new one from the access information of one of that \
                 owner's instances in the web client, and put it in place of the old one"
            }
            ErrorKind::NotFound | ErrorKind::Redirect { .. } | ErrorKind::NotDocumented { .. } => {
                "check `host` and `port` in the resource controller configuration: something else \
                 seems to answer there"
            }
            ErrorKind::Status { status: 429 | 500..=599, .. } => {
                "the server has trouble: look at the log of its pod, then run the same command again"
            }
            ErrorKind::Status { .. } => "check `host` and `port` in the resource controller configuration",
            ErrorKind::Timeout { .. } => {
                "check that the server is up and that this machine may reach it, then run the same \
                 command again"
            }
            ErrorKind::Dns { .. } => {
                "check `host` in the resource controller configuration; names of services are known \
                 only inside the cluster, so run this in a pod there"
            }
            ErrorKind::Unreachable { .. } => {
                "check `host` and `port` in the resource controller configuration, and that the \
                 server is up"
            }
            ErrorKind::Tls(fault) => match fault {
                TlsFault::UntrustedCa | TlsFault::BadCertificate { .. } => {
                    "add `caFile:` with the path of the CA's certificate (PEM) to the resource \
                     controller configuration, or `insecureSkipTlsVerify: true` to do without \
                     verification"
                }
                TlsFault::WrongName { .. } => {
                    "write a name that the certificate is for under `host` in the resource \
                     controller configuration, or add `insecureSkipTlsVerify: true` to do without \
                     verification"
                }
                TlsFault::Expired { .. } => {
                    "have the certificate renewed, or add `insecureSkipTlsVerify: true` to the \
                     resource controller configuration to do without verification"
                }
                TlsFault::NotYetValid => "check the clock of this machine",
                TlsFault::NotTls | TlsFault::Refused { .. } => "check `port` in the resource controller configuration",
            },
            ErrorKind::Interrupted { .. } => "run the same command again",
            ErrorKind::TooLarge { .. } | ErrorKind::PageLoop { .. } | ErrorKind::TooManyPages { .. } => {
                "check `host` and `port` in the resource controller configuration; to go on without \
                 the listing, pass a mapping file"
            }
            ErrorKind::NextUrlElsewhere { .. } => {
                "no token was sent there; if that server is the right one, write its name and port \
                 under `host` and `port` in the resource controller configuration"
            }
            ErrorKind::RowsCount { .. } => {
                "instances may have been added or removed meanwhile: run the same command again"
            }
        };
        Some(hint.to_owned())
    }
}

impl ErrorKind {
    /// True for a fault that can be gone a moment later.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Dns { .. } | Self::Unreachable { .. } | Self::Status { status: 429 | 502 | 503 | 504, .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot list the service instances at `{}`", self.url)?;
        if let Some(token) = &self.token {
            write!(f, " with the token `{token}`")?;
        }
        write!(f, ": {}", self.kind)?;
        if self.attempts > 1 {
            write!(f, " (tried {} times)", self.attempts)?;
        }
        Ok(())
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ca(error) => error.fmt(f),
            Self::KindConflict { configured, asked } => {
                write!(f, "the configuration says `type: {configured}`, but {asked} instances were asked for")
            }
            Self::Setup { reason } => write!(f, "the request cannot be made: {reason}"),
            Self::Unauthorized { tokens, of } => {
                let word = if tokens.len() == 1 { "token" } else { "tokens" };
                let tokens: Vec<_> = tokens.iter().map(ToString::to_string).collect();
                write!(f, "{} of {of} {word} refused: {}", tokens.len(), tokens.join(", "))
            }
            Self::NotFound => f.write_str("the server answered 404 Not Found"),
            Self::Redirect { status, location } => {
                write!(f, "the server answered {} and sends us ", status_line(*status))?;
                match location {
                    Some(location) => write!(f, "to `{location}`"),
                    None => f.write_str("elsewhere"),
                }
            }
            Self::Status { status, excerpt } => {
                write!(f, "the server answered {}", status_line(*status))?;
                excerpt.iter().try_for_each(|excerpt| write!(f, ": `{excerpt}`"))
            }
            Self::Timeout { after } => write!(f, "no complete answer within {after:?}"),
            Self::Dns { reason } => write!(f, "the host name is not known: {reason}"),
            Self::Unreachable { reason } => write!(f, "no connection: {reason}"),
            Self::Tls(fault) => fault.fmt(f),
            Self::Interrupted { received, reason } => {
                write!(f, "the connection broke after {received} bytes of the answer: {reason}")
            }
            Self::NotDocumented { reason, excerpt } => {
                write!(f, "the answer is not the documented form: {reason}")?;
                excerpt.iter().try_for_each(|excerpt| write!(f, "; it begins with `{excerpt}`"))
            }
            Self::TooLarge { limit } => write!(f, "the answer is larger than {limit} bytes"),
            Self::NextUrlElsewhere { next_url } => {
                write!(f, "the page leads to another server, `{next_url}`")
            }
            Self::PageLoop { next_url } => {
                write!(f, "the page leads back to one read before, `{next_url}`")
            }
            Self::TooManyPages { limit } => {
                write!(f, "the listing does not end after {limit} pages")
            }
            Self::RowsCount { page, rows_count, carried } => write!(
                f,
                "page {page} says that it carries {rows_count} instances (`rows_count`), but it \
                 carries {carried}"
            ),
        }
    }
}

impl fmt::Display for RefusedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({})", self.key, status_line(self.status))
    }
}

impl std::error::Error for Error {}

/// `503 Service Unavailable`
fn status_line(status: u16) -> String {
    match reqwest::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason()) {
        Some(reason) => format!("{status} {reason}"),
        None => status.to_string(),
    }
}

/// Takes the tokens out of what a server sent, before any of it is shown.
pub(super) struct Redactor<'a> {
    tokens: &'a [AccessToken],
}

impl<'a> Redactor<'a> {
    pub(super) fn new(tokens: &'a [AccessToken]) -> Self {
        Self { tokens }
    }

    /// The beginning of `bytes` in one line of printable characters; `None` if there are none.
    pub(super) fn excerpt(&self, bytes: &[u8]) -> Option<String> {
        let text = self.clean(&String::from_utf8_lossy(bytes));
        (!text.is_empty()).then_some(text)
    }

    /// `text` in one line of printable characters, cut short.
    pub(super) fn clean(&self, text: &str) -> String {
        // Tokens first: after the cut, half a token would be left.
        let mut text = text.to_owned();
        for token in self.tokens {
            text = text.replace(token.value.expose_secret(), "***");
        }
        let printable = |c: char| if c.is_control() || c == '`' { ' ' } else { c };
        let text: String = text.chars().map(printable).collect();
        let mut words = text.split_whitespace();
        let mut line = String::new();
        let mut length = 0;
        for word in &mut words {
            for c in (length > 0).then_some(' ').into_iter().chain(word.chars()) {
                if length == EXCERPT_CHARS {
                    line.push('…');
                    return line;
                }
                line.push(c);
                length += 1;
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(value: &str) -> AccessToken {
        AccessToken { key: "accessTokens[0]".into(), value: value.into() }
    }

    #[test]
    fn an_excerpt_is_one_short_printable_line() {
        let redactor = Redactor::new(&[]);
        assert_eq!(redactor.excerpt(b" <html>\r\n\t<b>\x1b[31m`x`\xff").as_deref(), Some("<html> <b> [31m x \u{fffd}"));
        assert_eq!(redactor.excerpt(b"\n \0"), None);
        let long = redactor.excerpt("é".repeat(500).as_bytes()).expect("excerpt");
        assert_eq!(long, format!("{}…", "é".repeat(200)));
        assert_eq!(redactor.excerpt(&[b'x'; 200]).expect("excerpt").len(), 200);
    }

    #[test]
    fn a_token_that_comes_back_is_not_shown_not_even_in_part() {
        let tokens = [token("s3cret-token")];
        let redactor = Redactor::new(&tokens);
        let text = format!("{}s3cret-token tail", "x".repeat(195));
        assert_eq!(redactor.clean(&text), format!("{}*** t…", "x".repeat(195)));
        assert_eq!(redactor.clean("Bearer s3cret-token"), "Bearer ***");
    }

    #[test]
    fn refused_tokens_are_named_by_their_place() {
        let refused = |key: &str, status| RefusedToken { key: key.into(), status };
        let kind = ErrorKind::Unauthorized {
            tokens: vec![refused("accessTokens[1]", 401), refused("accessTokens[2]", 403)],
            of: 4,
        };
        assert_eq!(
            Error::new("https://h/x".into(), kind).to_string(),
            "cannot list the service instances at `https://h/x`: 2 of 4 tokens refused: \
             `accessTokens[1]` (401 Unauthorized), `accessTokens[2]` (403 Forbidden)"
        );
    }

    #[test]
    fn only_passing_faults_are_tried_again() {
        let status = |status| ErrorKind::Status { status, excerpt: None };
        for passing in [429, 502, 503, 504] {
            assert!(status(passing).is_passing());
        }
        for lasting in [400, 500, 501, 505] {
            assert!(!status(lasting).is_passing());
        }
        assert!(!ErrorKind::Tls(TlsFault::UntrustedCa).is_passing());
        assert!(!ErrorKind::Timeout { after: Duration::from_secs(1) }.is_passing());
    }
}
