//! The connection to the store, as the product's own pods get it.

use std::fmt;

use secrecy::SecretString;
use serde_json::{Map, Value};

const SERVICES: &str = "user-provided";
const SERVICE: &str = "pgservice";

/// How the store's PostgreSQL is reached from inside the cluster.
///
/// The password does not show in `Debug`:
///
/// ```
/// let value = br#"{"user-provided": [{"name": "pgservice", "credentials":
///     {"host": "h", "port": 5432, "database": "d", "username": "u", "password": "tell nobody"}}]}"#;
/// let connection = k8s_discovery::StoreConnection::from_vcap_services(value)?;
/// assert!(!format!("{connection:?}").contains("nobody"));
/// # Ok::<(), k8s_discovery::VcapServicesError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreConnection {
    /// The name of the service, or an address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The role to log in as. From 1.5 on it is also the superuser.
    pub username: String,
    /// Its password.
    pub password: SecretString,
}

impl StoreConnection {
    /// Reads the value of the secret's key `vcap_services` or `store_vcap_services`
    /// ([`Generation::secret_key`](crate::Generation::secret_key)), after the Base64 was removed.
    ///
    /// It is JSON: a list `user-provided` of services, of which the one named `pgservice` counts
    /// (others, such as Redis, may stand beside it), with its `credentials`: `host`, `port` (a number
    /// or a text), `database`, `username`, `password`. Anything else in it is left alone.
    ///
    /// # Errors
    ///
    /// Every fault at once. No message quotes a value.
    pub fn from_vcap_services(value: &[u8]) -> Result<Self, VcapServicesError> {
        let mut faults = Vec::new();
        let credentials = credentials(value).map_err(|fault| VcapServicesError { faults: vec![fault] })?;
        let host = text(&credentials, "host", &mut faults);
        let port = port(&credentials, &mut faults);
        let database = text(&credentials, "database", &mut faults);
        let username = text(&credentials, "username", &mut faults);
        let password = text(&credentials, "password", &mut faults);
        match (host, port, database, username, password) {
            (Some(host), Some(port), Some(database), Some(username), Some(password)) => {
                Ok(Self { host, port, database, username, password: password.into() })
            }
            _ => Err(VcapServicesError { faults }),
        }
    }
}

/// Why the value of the secret is not a [`StoreConnection`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VcapServicesError {
    faults: Vec<String>,
}

impl VcapServicesError {
    /// The faults one by one; at least one.
    #[must_use]
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some("check that the secret and its key are those of this version of the product, and that the value was decoded from Base64 once".to_owned())
    }
}

impl fmt::Display for VcapServicesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot read the store's connection from its secret")?;
        match self.faults.as_slice() {
            [one] => write!(f, ": {one}"),
            several => {
                write!(f, ", {} faults:", several.len())?;
                several.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
            }
        }
    }
}

impl std::error::Error for VcapServicesError {}

/// The credentials of the one service that is meant.
fn credentials(value: &[u8]) -> Result<Map<String, Value>, String> {
    // Only the place is told: the parser's own words might quote the text.
    let root: Value = serde_json::from_slice(value)
        .map_err(|error| format!("it is not JSON (line {}, column {})", error.line(), error.column()))?;
    let Value::Object(mut root) = root else { return Err(format!("expected an object, not {}", kind(&root))) };
    let services = match root.remove(SERVICES) {
        Some(Value::Array(services)) => services,
        Some(other) => return Err(format!("`{SERVICES}` is {}, not a list of services", kind(&other))),
        None => return Err(format!("`{SERVICES}`, the list of services, is missing")),
    };
    let count = services.len();
    let mut named = services.into_iter().enumerate().filter(|(_, service)| service["name"] == SERVICE);
    let Some((at, mut service)) = named.next() else {
        return Err(format!("none of the {count} services in `{SERVICES}` is named `{SERVICE}`"));
    };
    // Which of them holds the store cannot be told, and the wrong one would be dumped without a word.
    if let Some((again, _)) = named.next() {
        return Err(format!("`{SERVICES}[{at}]` and `{SERVICES}[{again}]` are both named `{SERVICE}`"));
    }
    match service["credentials"].take() {
        Value::Object(credentials) => Ok(credentials),
        Value::Null => Err(format!("`{SERVICES}[{at}].credentials` is missing")),
        other => Err(format!("`{SERVICES}[{at}].credentials` is {}, not an object", kind(&other))),
    }
}

fn text(credentials: &Map<String, Value>, key: &str, faults: &mut Vec<String>) -> Option<String> {
    let fault = match credentials.get(key) {
        // A NUL ends a text in PostgreSQL's protocol, so it could not be sent as it is.
        Some(Value::String(text)) if text.contains('\0') => format!("`{key}` contains a NUL character"),
        Some(Value::String(text)) if !text.is_empty() => return Some(text.clone()),
        Some(Value::String(_)) => format!("`{key}` is empty"),
        Some(Value::Null) | None => format!("`{key}` is missing"),
        Some(other) => format!("`{key}` is {}, not a text", kind(other)),
    };
    faults.push(fault);
    None
}

fn port(credentials: &Map<String, Value>, faults: &mut Vec<String>) -> Option<u16> {
    let number = match credentials.get("port") {
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(Value::Null) | None => {
            faults.push("`port` is missing".to_owned());
            return None;
        }
        Some(_) => None,
    };
    let port = number.and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0);
    if port.is_none() {
        faults.push("`port` is not a number from 1 to 65535".to_owned());
    }
    port
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Result<StoreConnection, VcapServicesError> {
        StoreConnection::from_vcap_services(value.to_string().as_bytes())
    }

    /// The services with these credentials in the middle of others.
    fn services(credentials: &Value) -> Value {
        json!({"user-provided": [
            {"name": "redis", "label": "user-provided", "credentials": {"host": "redis", "port": 6379}},
            {"name": "pgservice", "label": "user-provided", "credentials": credentials},
            {"label": "nameless"},
            "not even a service",
        ], "other": 1})
    }

    fn good() -> Value {
        json!({"host": "wa-postgres-rw", "port": 5432, "database": "db", "username": "dbadmin", "password": "pa$$ \"wörd\""})
    }

    #[test]
    fn the_service_of_the_store_is_found_among_others() {
        let connection = read(&services(&good())).unwrap();
        assert_eq!(connection.host, "wa-postgres-rw");
        assert_eq!(connection.port, 5432);
        assert_eq!(connection.database, "db");
        assert_eq!(connection.username, "dbadmin");
        assert_eq!(connection.password.expose_secret(), "pa$$ \"wörd\"");
    }

    #[test]
    fn a_port_is_a_number_or_a_text() {
        for (port, expected) in
            [(json!(1), Some(1)), (json!("5432"), Some(5432)), (json!(" 65535\n"), Some(65535)), (json!(0), None)]
                .into_iter()
                .chain(
                    [json!(65536), json!(-1), json!(5432.5), json!(""), json!("pg"), json!([5432])]
                        .map(|bad| (bad, None)),
                )
        {
            let mut credentials = good();
            credentials["port"] = port.clone();
            match read(&services(&credentials)) {
                Ok(connection) => assert_eq!(Some(connection.port), expected, "{port}"),
                Err(error) => {
                    assert_eq!(expected, None, "{port}");
                    assert_eq!(error.faults(), ["`port` is not a number from 1 to 65535"]);
                }
            }
        }
    }

    #[test]
    fn every_fault_of_the_credentials_is_told_at_once_and_no_value() {
        let error = read(&services(&json!({"host": "", "database": null, "username": 70001, "password": ["hunter2"]})))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read the store's connection from its secret, 5 faults:\n  \
             `host` is empty\n  `port` is missing\n  `database` is missing\n  `username` is a number, not a text\n  \
             `password` is a list, not a text"
        );
        assert!(error.hint().is_some());

        let mut credentials = good();
        credentials["password"] = json!("a\0b");
        let error = read(&services(&credentials)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read the store's connection from its secret: `password` contains a NUL character"
        );
    }

    #[test]
    fn what_is_around_the_credentials_is_named_when_it_is_wrong() {
        let service = |credentials: Value| json!({"name": "pgservice", "credentials": credentials});
        for (value, fault) in [
            (json!([]), "expected an object, not a list"),
            (json!({}), "`user-provided`, the list of services, is missing"),
            (json!({"user-provided": {"name": "pgservice"}}), "`user-provided` is an object, not a list of services"),
            (json!({"user-provided": []}), "none of the 0 services in `user-provided` is named `pgservice`"),
            (
                json!({"user-provided": [{"name": "redis"}, {"name": "PGSERVICE"}]}),
                "none of the 2 services in `user-provided` is named `pgservice`",
            ),
            (
                json!({"user-provided": [service(good()), {"name": "redis"}, service(good())]}),
                "`user-provided[0]` and `user-provided[2]` are both named `pgservice`",
            ),
            (json!({"user-provided": [{"name": "pgservice"}]}), "`user-provided[0].credentials` is missing"),
            (
                json!({"user-provided": [service(json!("x"))]}),
                "`user-provided[0].credentials` is a text, not an object",
            ),
        ] {
            assert_eq!(read(&value).unwrap_err().faults(), [fault], "{value}");
        }
    }

    #[test]
    fn text_that_is_not_json_is_not_quoted() {
        // still in Base64: the most likely mistake
        for value in [&b"eyJ1c2VyLXByb3ZpZGVkIjo"[..], b"", b"{\"user-provided\": hunter2}", b"\xff\xfe"] {
            let error = StoreConnection::from_vcap_services(value).unwrap_err().to_string();
            assert!(error.contains("it is not JSON (line 1, column "), "{error}");
            assert!(!error.contains("eyJ") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_password_does_not_show() {
        let connection = read(&services(&good())).unwrap();
        let shown = format!("{connection:?} {connection:#?}");
        assert!(shown.contains("wa-postgres-rw") && !shown.contains("pa$$"), "{shown}");
    }
}
