//! Where the mapping comes from: a file, the names, or the person at the terminal.

use std::collections::HashSet;
use std::fs::File;
use std::io;

use pgmig_core::instance_id::InstanceId;
use pgmig_core::mapping::{Mapping, MappingEntry, MappingFile, ProvisionedInstance};
use pgmig_core::resource_controller::ServiceInstance;
use pgmig_core::target::Target;
use pgmig_core::tenant::Tenant;
use terminal::{harmless, step, tell, text, warn};

use crate::ask::Terminal;
use crate::environment::resource_controller;
use crate::failure::Failure;
use crate::options::{MappingSource, RestoreOptions};
use crate::report_file::try_to_write_in;

const ENTERED: &str = "enteredMapping.yaml";

/// The instances of the target, and who says so.
struct Instances {
    provisioned: Vec<ProvisionedInstance>,
    provisioned_by: &'static str,
    /// What the Resource Controller says of each, for the details.
    details: Vec<ServiceInstance>,
}

impl Instances {
    /// Those that a person may choose.
    fn for_users(&self) -> Self {
        let provisioned = self.provisioned.iter().filter(|instance| !instance.internal).cloned().collect();
        Self { provisioned, details: self.details.clone(), ..*self }
    }
}

pub(crate) async fn make(options: &RestoreOptions, tenants: &[Tenant], target: &Target) -> Result<Mapping, Failure> {
    // Before anybody waits for the network: what is wrong here is wrong anyhow.
    let source = match options.args.mapping_source() {
        MappingSource::File(path) => Ready::File(MappingFile::load(path)?),
        MappingSource::Names => Ready::Names,
        MappingSource::SameIds => Ready::File(same_ids(tenants)?),
        MappingSource::Prompts => {
            let terminal = find_terminal(options)?;
            try_to_keep_answers()?;
            Ready::Terminal(terminal)
        }
    };
    let instances = instances(options, target).await?;
    let file = match source {
        Ready::File(file) => file,
        Ready::Names => Mapping::by_name(tenants, &instances.provisioned)?,
        Ready::Terminal(mut terminal) => {
            let file = prompt(&mut terminal, tenants, &instances.for_users())?;
            keep_answers(&file)?;
            file
        }
    };
    Ok(Mapping::resolve(tenants, file.entries(), &instances.provisioned, instances.provisioned_by)?)
}

/// A [`MappingSource`] that can be used.
enum Ready {
    File(MappingFile),
    Names,
    Terminal(Terminal),
}

/// Each instance becomes the one with its ID.
fn same_ids(tenants: &[Tenant]) -> Result<MappingFile, Failure> {
    let live = tenants.iter().filter(|tenant| tenant.is_live());
    Ok(MappingFile::new(live.map(|it| MappingEntry { source: it.id.clone(), target: it.id.clone() }).collect())?)
}

fn find_terminal(options: &RestoreOptions) -> Result<Terminal, Failure> {
    let hint = "give the pairs in a file with --mapping, or pair the instances by their names with --map-by-name, or by their IDs with \
                --same-ids";
    match Terminal::find(options.stdin_is_archive) {
        Ok(Some(terminal)) => Ok(terminal),
        Ok(None) => Err(Failure::new("no mapping was given, and there is no terminal to ask for one", hint)),
        Err(e) => {
            Err(Failure::new(format!("no mapping was given, and the terminal cannot be asked for one: {e}"), hint))
        }
    }
}

/// Many questions are asked only if the answers can be kept.
fn try_to_keep_answers() -> Result<(), Failure> {
    let there = match File::open(ENTERED).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    };
    there.and_then(|()| try_to_write_in(".".as_ref())).map_err(|e| {
        let text = format!("the answers to the questions for the mapping could not be kept in `{ENTERED}`: {e}");
        Failure::new(text, "run in a folder that you can write to, or give the pairs in a file with --mapping")
    })
}

fn keep_answers(file: &MappingFile) -> Result<(), Failure> {
    let written = file.write_to(ENTERED.as_ref()).map_err(|e| {
        tell(harmless(&file.to_yaml()));
        Failure::new(e.to_string(), "save the lines above to a file, and pass it with --mapping the next time")
    })?;
    if let Some(kept) = written.kept {
        warn(format_args!("the {ENTERED} that was there is now {}", kept.display()));
    }
    step(format_args!("wrote what was entered to {ENTERED}; --mapping takes it the next time"));
    Ok(())
}

async fn instances(options: &RestoreOptions, target: &Target) -> Result<Instances, Failure> {
    let Some(config) = &options.args.resource_controller else {
        let provisioned = ProvisionedInstance::of_tenants(&target.tenants);
        let provisioned_by = "the target's own list of tenants";
        return Ok(Instances { provisioned, provisioned_by, details: Vec::new() });
    };
    let client = resource_controller(config, options.args.wxo)?;
    step(format_args!("ask the Resource Controller at {} for the provisioned instances", client.url()));
    let (details, gone): (Vec<_>, Vec<_>) =
        client.instances().await?.into_iter().partition(ServiceInstance::is_provisioned);
    for instance in gone {
        let state = instance.state.unwrap_or_default();
        warn(format_args!("instance {} is in state `{state}`: it takes no data", instance.guid));
    }
    let provisioned = details
        .iter()
        .map(|instance| ProvisionedInstance { id: instance.guid.clone(), name: instance.name.clone(), internal: false })
        .collect();
    Ok(Instances { provisioned, provisioned_by: "the Resource Controller", details })
}

fn prompt(terminal: &mut Terminal, tenants: &[Tenant], instances: &Instances) -> Result<MappingFile, Failure> {
    let live: Vec<_> = tenants.iter().filter(|tenant| tenant.is_live()).collect();
    if instances.provisioned.len() < live.len() {
        let text = format!(
            "the archive has {}, but the target only {}",
            text::counted(live.len() as u64, "live instance"),
            instances.provisioned.len()
        );
        return Err(Failure::new(text, "create the missing instances in the target, then run the same command again"));
    }
    terminal.show("\nChoose for each instance of the archive the instance of the target that takes its data.\n\n")?;
    terminal.show(&list(instances, &HashSet::new()))?;
    let mut entries: Vec<MappingEntry> = Vec::new();
    let mut taken = HashSet::new();
    for (index, tenant) in live.iter().enumerate() {
        let (number, name) = (index + 1, tenant.display_name());
        terminal.show(&format!("\n{number} of {}: {name} ({})\n", live.len(), tenant.id))?;
        let chosen = choose(terminal, tenant, instances, &taken)?;
        taken.insert(chosen.clone());
        entries.push(MappingEntry { source: tenant.id.clone(), target: chosen });
    }
    Ok(MappingFile::new(entries)?)
}

fn list(instances: &Instances, taken: &HashSet<InstanceId>) -> String {
    let rows = instances.provisioned.iter().enumerate().map(|(index, instance)| {
        let state = if taken.contains(&instance.id) { "taken" } else { "" };
        let name = instance.name.as_deref().unwrap_or("(no name)");
        vec![(index + 1).to_string(), name.into(), instance.id.to_string(), state.into()]
    });
    text::table(&["", "Instance of the target", "ID", ""], &[0], rows)
}

fn choose(
    terminal: &mut Terminal,
    tenant: &Tenant,
    instances: &Instances,
    taken: &HashSet<InstanceId>,
) -> Result<InstanceId, Failure> {
    let suggestion = suggestion(tenant, instances, taken);
    let default = suggestion.map_or(String::new(), |number| format!(" [{number}]"));
    loop {
        let question = format!("Number of the target instance (d NUMBER: details, l: list, q: quit){default}:");
        let Some(answer) = terminal.ask(&question)? else { return Err(stopped()) };
        let (details, number) = match answer.strip_prefix(['d', 'D']) {
            Some(rest) => (true, rest.trim().to_owned()),
            None => (false, answer.clone()),
        };
        let number = match number.as_str() {
            "q" | "Q" => return Err(stopped()),
            "l" | "L" => {
                terminal.show(&list(instances, taken))?;
                continue;
            }
            "" if !details => suggestion,
            text => text.parse().ok(),
        };
        let chosen = number.and_then(|number: usize| instances.provisioned.get(number.checked_sub(1)?));
        match chosen {
            None => terminal.show(&format!("  a number from 1 to {} is needed\n", instances.provisioned.len()))?,
            Some(instance) if details => terminal.show(&details_of(instance, instances))?,
            Some(instance) if taken.contains(&instance.id) => terminal.show("  that one is taken already\n")?,
            Some(instance) => return Ok(instance.id.clone()),
        }
    }
}

/// The number of the only free instance that has the same name.
fn suggestion(tenant: &Tenant, instances: &Instances, taken: &HashSet<InstanceId>) -> Option<usize> {
    let same = |instance: &ProvisionedInstance| {
        instance.name.is_some() && instance.name == tenant.name && !taken.contains(&instance.id)
    };
    let mut numbers =
        (1..).zip(&instances.provisioned).filter(|(_, instance)| same(instance)).map(|(number, _)| number);
    let first = numbers.next();
    first.filter(|_| numbers.next().is_none())
}

fn details_of(instance: &ProvisionedInstance, instances: &Instances) -> String {
    let details = instances.details.iter().find(|details| details.guid == instance.id);
    match details.and_then(|details| serde_json::to_string_pretty(details).ok()) {
        Some(details) => details + "\n",
        None => format!("  {} ({})\n", instance.name.as_deref().unwrap_or("(no name)"), instance.id),
    }
}

fn stopped() -> Failure {
    Failure::new(
        "stopped before the mapping was complete",
        "nothing was changed; run the same command again when you are ready",
    )
}
