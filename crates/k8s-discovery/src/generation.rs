//! What is called how, in which version of the product.

use std::fmt;
use std::str::FromStr;

/// How the database of a deployment is found in one generation of the product.
///
/// Selectors are label selectors as the Kubernetes API takes them. They hold the deployment's name,
/// `wa` by default; 1.4 calls it the release.
///
/// The table is that of the backup documents of Watson Assistant 1.4.2, 4.x and 5.x.
///
/// ```
/// use k8s_discovery::Generation;
///
/// let generation = Generation::of("4.8.8".parse()?)?;
/// assert_eq!(generation.pod_selectors("wa"), ["app=wa-postgres-16"]);
/// assert_eq!(generation.container, Some("postgres"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Generation {
    /// The product versions that it holds for.
    pub versions: &'static [VersionRange],
    pod_selectors: &'static [&'static str],
    /// The container of the pod to run `pg_dump` in; `None` for the pod's default container.
    pub container: Option<&'static str>,
    secret_selector: &'static str,
    /// What the name of the secret contains. The selector finds others beside it.
    pub secret_name_part: &'static str,
    /// The key of the secret whose value [`StoreConnection`](crate::StoreConnection) reads.
    pub secret_key: &'static str,
}

/// Versions from the first one on, up to one that is no longer in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VersionRange {
    /// The first version.
    pub since: ProductVersion,
    /// The first version after it; `None` while there is none.
    pub before: Option<ProductVersion>,
}

/// Every generation, oldest first. `{}` stands for the deployment's name.
static GENERATIONS: [Generation; 6] = [
    Generation {
        versions: &[range((1, 4, 0), (1, 5, 0))],
        pod_selectors: &["component=stolon-proxy,release={}"],
        container: None,
        secret_selector: "component=store,release={}",
        secret_name_part: STORE_VCAP,
        secret_key: "vcap_services",
    },
    Generation {
        versions: &[range((1, 5, 0), (1, 5, 1))],
        pod_selectors: &["component=stolon-keeper,app.kubernetes.io/instance={}"],
        container: None,
        secret_selector: STORE,
        secret_name_part: STORE_VCAP,
        secret_key: "vcap_services",
    },
    Generation {
        versions: &[range((4, 0, 0), (4, 7, 0))],
        pod_selectors: &["postgresql={}-postgres", "app={}-postgres"],
        container: Some("postgres"),
        secret_selector: STORE,
        secret_name_part: STORE_VCAP,
        secret_key: "vcap_services",
    },
    Generation {
        versions: &[range((4, 7, 0), (4, 8, 6)), range((5, 0, 0), (5, 0, 1))],
        pod_selectors: &["app={}-postgres"],
        container: Some("postgres"),
        secret_selector: STORE,
        secret_name_part: STORE_VCAP,
        secret_key: "vcap_services",
    },
    Generation {
        versions: &[range((4, 8, 6), (4, 8, 8)), range((5, 0, 1), (5, 1, 0))],
        pod_selectors: &["app={}-postgres"],
        container: Some("postgres"),
        secret_selector: STORE_SUBSYSTEM,
        secret_name_part: STORE_DATASTORE_CONNECTION,
        secret_key: "store_vcap_services",
    },
    Generation {
        versions: &[range((4, 8, 8), (5, 0, 0)), since(5, 1, 0)],
        pod_selectors: &["app={}-postgres-16"],
        container: Some("postgres"),
        secret_selector: STORE_SUBSYSTEM,
        secret_name_part: STORE_DATASTORE_CONNECTION,
        secret_key: "store_vcap_services",
    },
];

const STORE: &str = "component=store,app.kubernetes.io/instance={}";
const STORE_SUBSYSTEM: &str = "component=store-subsystem,app.kubernetes.io/instance={}";
const STORE_VCAP: &str = "store-vcap";
const STORE_DATASTORE_CONNECTION: &str = "store-datastore-connection";

const fn range(since: (u16, u16, u16), before: (u16, u16, u16)) -> VersionRange {
    VersionRange {
        since: ProductVersion::new(since.0, since.1, since.2),
        before: Some(ProductVersion::new(before.0, before.1, before.2)),
    }
}

const fn since(major: u16, minor: u16, patch: u16) -> VersionRange {
    VersionRange { since: ProductVersion::new(major, minor, patch), before: None }
}

impl Generation {
    /// Every generation, oldest first.
    #[must_use]
    pub fn all() -> &'static [Self] {
        &GENERATIONS
    }

    /// The generation that a version of the product belongs to. Versions to come are taken to be
    /// like the newest that is known.
    ///
    /// # Errors
    ///
    /// There is no row for the version: it is older than 1.4.0 or between the generations.
    pub fn of(version: ProductVersion) -> Result<&'static Self, UnknownGeneration> {
        Self::all()
            .iter()
            .find(|generation| generation.versions.iter().any(|range| range.contains(version)))
            .ok_or(UnknownGeneration { version })
    }

    /// Selectors of the pods to run `pg_dump` in, to be tried in this order. Any running pod will do.
    #[must_use]
    pub fn pod_selectors(&self, instance: &str) -> Vec<String> {
        self.pod_selectors.iter().map(|selector| selector.replace("{}", instance)).collect()
    }

    /// The selector of the secret with the connection.
    #[must_use]
    pub fn secret_selector(&self, instance: &str) -> String {
        self.secret_selector.replace("{}", instance)
    }
}

impl VersionRange {
    /// Whether the version is in it.
    #[must_use]
    pub fn contains(&self, version: ProductVersion) -> bool {
        self.since <= version && self.before.is_none_or(|before| version < before)
    }
}

/// A version of the product, such as 4.8.8. (The version of the database's schema is another one.)
///
/// All three numbers have to be given: 4.8.5, 4.8.6 and 4.8.8 are of different generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProductVersion {
    major: u16,
    minor: u16,
    patch: u16,
}

impl ProductVersion {
    /// The version with these three numbers.
    #[must_use]
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }
}

impl FromStr for ProductVersion {
    type Err = ParseProductVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `u16` would also take a sign.
        let number = |part: &str| part.bytes().all(|c| c.is_ascii_digit()).then(|| part.parse().ok()).flatten();
        match text.split('.').map(number).collect::<Option<Vec<u16>>>().as_deref() {
            Some(&[major, minor, patch]) => Ok(Self::new(major, minor, patch)),
            _ => Err(ParseProductVersionError { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for ProductVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A text that is not a [`ProductVersion`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a version of the product, which is three numbers with dots between them")]
pub struct ParseProductVersionError {
    text: String,
}

impl ParseProductVersionError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some("give it in full, for example `4.8.8`: patch releases differ in where the connection is kept".to_owned())
    }
}

/// No [`Generation`] is known for a version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("where version {version} of the product keeps its database is not known")]
pub struct UnknownGeneration {
    version: ProductVersion,
}

impl UnknownGeneration {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some("known are 1.4, 1.5.0, and 4.0.0 and later; check the version".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(version: &str) -> &'static Generation {
        Generation::of(version.parse().expect("a version")).expect("a generation")
    }

    #[test]
    fn each_version_has_the_row_of_the_documents() {
        let rows = [
            ("1.4.0", 0),
            ("1.4.2", 0),
            ("1.5.0", 1),
            ("4.0.0", 2),
            ("4.6.5", 2),
            ("4.7.0", 3),
            ("4.8.0", 3),
            ("4.8.5", 3),
            ("4.8.6", 4),
            ("4.8.7", 4),
            ("4.8.8", 5),
            ("4.8.12", 5),
            ("5.0.0", 3),
            ("5.0.1", 4),
            ("5.0.3", 4),
            ("5.0.12", 4),
            ("5.1.0", 5),
            ("5.4.0", 5),
            ("12.0.0", 5),
        ];
        for (version, row) in rows {
            assert_eq!(of(version), &Generation::all()[row], "{version}");
        }
    }

    #[test]
    fn no_version_has_two_rows() {
        let edges = Generation::all().iter().flat_map(|generation| generation.versions);
        for version in edges.map(|range| range.since) {
            let is_in = |generation: &&Generation| generation.versions.iter().any(|range| range.contains(version));
            assert_eq!(Generation::all().iter().filter(is_in).count(), 1, "{version}");
        }
    }

    #[test]
    fn a_version_between_the_generations_is_not_guessed_at() {
        for version in ["0.0.0", "1.3.9", "1.5.1", "2.0.0", "3.5.0"] {
            let error = Generation::of(version.parse().expect("a version")).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("where version {version} of the product keeps its database is not known")
            );
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn the_deployments_name_is_in_every_selector() {
        for generation in Generation::all() {
            let selectors = generation.pod_selectors("my-wa");
            assert!(!selectors.is_empty());
            for selector in selectors.into_iter().chain([generation.secret_selector("my-wa")]) {
                assert!(selector.contains("my-wa") && !selector.contains('{'), "{selector}");
            }
        }
        assert_eq!(of("4.5.0").pod_selectors("wa"), ["postgresql=wa-postgres", "app=wa-postgres"]);
        assert_eq!(of("1.4.2").secret_selector("wa"), "component=store,release=wa");
    }

    #[test]
    fn a_version_is_three_numbers() {
        assert_eq!("4.8.08".parse(), Ok(ProductVersion::new(4, 8, 8)));
        for text in ["", "5", "5.0", "4.3.7.2", "5.0.x", "5.0.+1", "v5.0.1", "5.0.1-rc", "5..1", " 5.0.1", "5.0.65536"]
        {
            let error = text.parse::<ProductVersion>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{text}` is not a version")), "{error}");
        }
    }
}
