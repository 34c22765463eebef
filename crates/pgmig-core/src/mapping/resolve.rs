//! From what the user wants to a mapping that is known to be right.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::{MappingEntry, MappingFile};
use crate::error::{Fault, Faults};
use crate::instance_id::InstanceId;
use crate::tenant::{Tenant, TenantState};

/// An instance that the target has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProvisionedInstance {
    /// Its ID.
    pub id: InstanceId,
    /// The name that users know.
    pub name: Option<String>,
    /// Whether it is internal to the product. Such a one is no user's: it is a
    /// target only when a mapping names it, and keeps its data otherwise.
    #[serde(skip)]
    pub internal: bool,
}

/// A mapping that fits the archive and the target: every live tenant of the
/// archive has exactly one target, no two share one, every target is provisioned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Mapping {
    /// The tenants that are restored, in the archive's order.
    pub mapped: Vec<MappedTenant>,
    /// The deleted and internal tenants whose rows are left out.
    pub left_out: Vec<Tenant>,
    /// The instances of the target that no tenant is mapped to. Their data is erased.
    pub spare: Vec<ProvisionedInstance>,
}

/// A tenant and the instance that takes its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MappedTenant {
    /// The tenant of the archive.
    pub source: Tenant,
    /// The instance of the target.
    pub target: ProvisionedInstance,
}

impl Mapping {
    /// Checks `entries` against the tenants of the archive and the instances of
    /// the target; `provisioned_by` says who knows these.
    ///
    /// # Errors
    ///
    /// Every fault at once: a live tenant without a target, a source or a target
    /// that occurs twice, a source that the archive does not have, a target that
    /// is not provisioned.
    pub fn resolve(
        tenants: &[Tenant],
        entries: &[MappingEntry],
        provisioned: &[ProvisionedInstance],
        provisioned_by: &str,
    ) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let known: HashMap<&InstanceId, &ProvisionedInstance> = provisioned.iter().map(|p| (&p.id, p)).collect();
        let mut targets: HashMap<&InstanceId, &InstanceId> = HashMap::new();
        let mut sources: BTreeMap<&InstanceId, Vec<&InstanceId>> = BTreeMap::new();
        for MappingEntry { source, target } in entries {
            if let Some(first) = sources.get(target).and_then(|sources| sources.first()) {
                faults.push(Fault::new(format!("both `{first}` and `{source}` are mapped to `{target}`")));
            }
            sources.entry(target).or_default().push(source);
            if targets.insert(source, target).is_some() {
                faults.push(Fault::new(format!("`{source}` is mapped twice")));
            }
            if !tenants.iter().any(|tenant| tenant.id == *source) {
                faults.push(Fault::new(format!("`{source}` is mapped, but the archive has no such instance")));
            }
            if !known.contains_key(target) {
                faults.push(Fault::new(format!("`{target}` is not provisioned, says {provisioned_by}")));
            }
            faults.extend([source, target].into_iter().filter(|id| !is_plain(id)).map(|id| {
                Fault::new(format!(
                    "`{id}` has characters that cannot be replaced safely; only letters, digits and . _ : / @ + = - can"
                ))
            }));
        }
        let (mut mapped, mut left_out) = (Vec::new(), Vec::new());
        for tenant in tenants {
            match targets.get(&tenant.id) {
                Some(target) => {
                    if let Some(&target) = known.get(target) {
                        mapped.push(MappedTenant { source: tenant.clone(), target: target.clone() });
                    }
                }
                None if tenant.is_live() => {
                    let name = tenant.display_name();
                    faults
                        .push(Fault::new(format!("`{}`, {name}, is live in the archive and has no target", tenant.id)));
                }
                None => left_out.push(tenant.clone()),
            }
        }
        if !faults.is_empty() {
            let live = tenants.iter().filter(|tenant| tenant.is_live()).count();
            let hint = format!(
                "the archive has {live} live instances and the target {}; create what is missing, correct the mapping, and run the same command again",
                provisioned.iter().filter(|instance| !instance.internal).count()
            );
            return Err(Faults::new("the mapping does not fit", faults).with_hint(hint));
        }
        let spare = provisioned.iter().filter(|p| !p.internal && !sources.contains_key(&p.id)).cloned().collect();
        Ok(Self { mapped, left_out, spare })
    }

    /// Checks `entries` against the tenants of the archive alone: that the targets are provisioned is for the user to know.
    ///
    /// # Errors
    ///
    /// As for [`resolve`](Self::resolve).
    pub fn without_target(tenants: &[Tenant], entries: &[MappingEntry]) -> Result<Self, Faults> {
        let targets = entries.iter().map(|entry| entry.target.clone());
        let provisioned: Vec<_> = targets.map(|id| ProvisionedInstance { id, name: None, internal: false }).collect();
        Self::resolve(tenants, entries, &provisioned, "the mapping")
            .map_err(|faults| faults.with_hint("correct the mapping and run the same command again"))
    }

    /// The pairs of `entries` as they are, for data without a list of tenants.
    ///
    /// # Errors
    ///
    /// When a source or a target occurs twice, or has characters that cannot be replaced safely.
    pub fn of_pairs(entries: &[MappingEntry]) -> Result<Self, Faults> {
        let tenant = |id: &InstanceId| Tenant { id: id.clone(), name: None, region: None, state: TenantState::Live };
        let tenants: Vec<Tenant> = entries.iter().map(|entry| tenant(&entry.source)).collect();
        Self::without_target(&tenants, entries)
    }

    /// For people: the tenants whose rows are left out, and why. An old installation can have thousands of deleted ones: a
    /// few are named.
    #[must_use]
    pub fn left_out_warnings(&self) -> Vec<String> {
        const NAMED: usize = 3;
        let mut warnings = Vec::new();
        for (state, word) in [(TenantState::Deleted, "deleted"), (TenantState::Internal, "internal")] {
            let tenants: Vec<_> = self.left_out.iter().filter(|tenant| tenant.state == state).collect();
            let names = tenants.iter().take(NAMED).map(|tenant| format!("{} ({})", tenant.id, tenant.display_name()));
            let names = names.collect::<Vec<_>>().join(", ");
            match tenants.len() {
                0 => {}
                1 => warnings.push(format!("tenant {names} is {word} and not mapped: its rows are left out")),
                number => {
                    let more = match number.saturating_sub(NAMED) {
                        0 => String::new(),
                        more => format!(" and {more} more"),
                    };
                    warnings.push(format!("tenants {names}{more} are {word} and not mapped: their rows are left out"));
                }
            }
        }
        warnings
    }

    /// Pairs the live tenants of the archive with the instances of the target
    /// that have the same names.
    ///
    /// # Errors
    ///
    /// Every fault at once: a live tenant without a name, or with one that occurs
    /// twice on either side or not at all in the target.
    pub fn by_name(tenants: &[Tenant], provisioned: &[ProvisionedInstance]) -> Result<MappingFile, Faults> {
        let mut faults = Vec::new();
        let mut entries = Vec::new();
        let provisioned: Vec<_> = provisioned.iter().filter(|instance| !instance.internal).collect();
        let live: Vec<&Tenant> = tenants.iter().filter(|tenant| tenant.is_live()).collect();
        for tenant in &live {
            let Some(name) = &tenant.name else {
                faults.push(Fault::new(format!("`{}` of the archive has no name", tenant.id)));
                continue;
            };
            if live.iter().filter(|other| other.name.as_ref() == Some(name)).count() > 1 {
                faults.push(Fault::new(format!(
                    "`{}` of the archive shares its name `{name}` with another one",
                    tenant.id
                )));
                continue;
            }
            let same: Vec<_> = provisioned.iter().filter(|p| p.name.as_ref() == Some(name)).collect();
            match same.as_slice() {
                [target] => entries.push(MappingEntry { source: tenant.id.clone(), target: target.id.clone() }),
                [] => faults
                    .push(Fault::new(format!("no instance of the target has the name `{name}` of `{}`", tenant.id))),
                several => {
                    faults
                        .push(Fault::new(format!("{} instances of the target have the name `{name}`", several.len())));
                }
            }
        }
        let file =
            if faults.is_empty() { MappingFile::new(entries).map_err(|e| e.to_string()) } else { Err(String::new()) };
        file.map_err(|e| {
            if !e.is_empty() {
                faults.push(Fault::new(e));
            }
            let unused =
                provisioned.iter().filter(|p| p.name.is_none() || !live.iter().any(|tenant| tenant.name == p.name));
            faults.extend(unused.map(|p| {
                let name = p.name.as_deref().unwrap_or("(no name)");
                Fault::new(format!("`{}`, {name}, of the target has no counterpart in the archive", p.id))
            }));
            Faults::new("the instances cannot be paired by name", faults)
                .with_hint("rename the instances, or write the pairs to a file and pass it with `--mapping`")
        })
    }
}

impl ProvisionedInstance {
    /// The instances that the target's own tenant table lists: live and internal ones.
    pub fn of_tenants(tenants: &[Tenant]) -> Vec<Self> {
        let provisioned = tenants.iter().filter(|tenant| tenant.state != TenantState::Deleted);
        provisioned
            .map(|tenant| Self {
                id: tenant.id.clone(),
                name: tenant.name.clone(),
                internal: tenant.state == TenantState::Internal,
            })
            .collect()
    }
}

/// Whether the ID can stand in arrays, JSON and COPY text without any escape.
fn is_plain(id: &InstanceId) -> bool {
    id.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:/@+=-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    fn tenant(id: &str, name: Option<&str>, region: &str, deleted: bool) -> Tenant {
        let rules = Profile::watson_assistant().tenants.unwrap();
        Tenant::new(id.parse().unwrap(), name.map(Into::into), Some(region.into()), deleted, &rules)
    }

    fn tenants() -> Vec<Tenant> {
        vec![
            tenant("a", Some("Sales"), "local", false),
            tenant("b", None, "local", false),
            tenant("c", Some("gone"), "local", true),
            tenant("d", Some("sys"), "System", false),
        ]
    }

    fn instances(pairs: &[(&str, &str)]) -> Vec<ProvisionedInstance> {
        let instance = |&(id, name): &(&str, &str)| ProvisionedInstance {
            id: id.parse().unwrap(),
            name: (!name.is_empty()).then(|| name.into()),
            internal: false,
        };
        pairs.iter().map(instance).collect()
    }

    fn entries(pairs: &[(&str, &str)]) -> Vec<MappingEntry> {
        pairs.iter().map(|(s, t)| MappingEntry { source: s.parse().unwrap(), target: t.parse().unwrap() }).collect()
    }

    #[test]
    fn deleted_and_internal_tenants_may_be_left_out_or_mapped() {
        let provisioned = instances(&[("x", "Sales"), ("y", ""), ("z", "spare")]);
        let mapping = Mapping::resolve(&tenants(), &entries(&[("a", "x"), ("b", "y")]), &provisioned, "t").unwrap();
        assert_eq!(mapping.left_out.len(), 2);
        assert_eq!(mapping.spare[0].name.as_deref(), Some("spare"));
        let all = entries(&[("a", "x"), ("b", "y"), ("d", "z")]);
        let mapping = Mapping::resolve(&tenants(), &all, &provisioned, "t").unwrap();
        assert_eq!((mapping.mapped.len(), mapping.left_out.len()), (3, 1));
    }

    #[test]
    fn every_fault_is_listed_at_once() {
        let provisioned = instances(&[("x", "Sales")]);
        let wrong = entries(&[("a", "x"), ("c", "x"), ("e", "q"), ("a", "x{")]);
        let text = Mapping::resolve(&tenants(), &wrong, &provisioned, "the target").unwrap_err().to_string();
        for expected in [
            "both `a` and `c` are mapped to `x`",
            "`a` is mapped twice",
            "`e` is mapped, but the archive has no such instance",
            "`q` is not provisioned, says the target",
            "`b`, (no name), is live in the archive and has no target",
            "`x{` has characters",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }

    #[test]
    fn names_pair_only_what_is_unambiguous() {
        let sales = [tenant("a", Some("Sales"), "local", false), tenant("d", Some("sys"), "System", false)];
        let file = Mapping::by_name(&sales, &instances(&[("x", "Sales"), ("y", "More")])).unwrap();
        assert_eq!(file.entries().len(), 1);
        let text = Mapping::by_name(&tenants(), &instances(&[("x", "Sales"), ("y", "Sales"), ("z", "Z")]));
        let text = text.unwrap_err().to_string();
        for expected in [
            "`b` of the archive has no name",
            "2 instances of the target have the name `Sales`",
            "`z`, Z, of the target",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}
