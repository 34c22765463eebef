//! `backup show`: what is in a backup.

use serde::Serialize;
use storage_backends::{Manifest, ObjectFormat};
use terminal::text::{count, size, table};

use super::Context;
use super::run::duration;
use crate::catalog;
use crate::failure::Failure;

/// A backup in JSON.
#[derive(Serialize)]
struct Shown<'a> {
    version: u32,
    job: &'a str,
    location: String,
    manifest: &'a Manifest,
}

pub(crate) async fn run(context: &Context, name: &str, id: &str) -> Result<(), Failure> {
    let job = catalog::job(&context.config, name)?;
    let catalog = catalog::open(&context.config, &job, (context.now)()).await?;
    let (_, manifest) = catalog::find(&catalog.list().await?, &job, id, (context.now)())?;
    let location = catalog.location();
    if context.is_json() {
        terminal::print_json(&Shown { version: 1, job: name, location, manifest: &manifest })?;
    } else {
        terminal::print(&text(&location, &manifest))?;
    }
    Ok(())
}

fn text(location: &str, manifest: &Manifest) -> String {
    let mut text = format!("Backup   {}\n", manifest.id);
    let mut line = |name: &str, value: &str| text += &format!("{name:8} {value}\n");
    line("Place", &format!("{location}/{}", manifest.id));
    line("Source", &manifest.source);
    let length = duration(manifest.finished - manifest.started);
    line("Begun", &format!("{}, took {length}", manifest.started.format("%F %T UTC")));
    let versions: Vec<_> = manifest.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    line("Versions", &versions.join(", "));
    match &manifest.verification {
        Some(verification) => {
            line("Verified", &format!("{}: {}", verification.at.format("%F %T UTC"), verification.what));
        }
        None => line("Verified", "no"),
    }
    if manifest.is_sealed() {
        line("Content", "encrypted; what is in it is known to the holders of a key, see `identity`");
    } else if manifest.is_encrypted() {
        line("Content", "encrypted");
    }
    if let Some(schema) = &manifest.schema_version {
        line("Schema", &format!("version {schema}"));
    }
    if !manifest.tenants.is_empty() {
        line("Tenants", &manifest.tenants.join("\n         "));
    }
    if let Some(consistency) = &manifest.consistency {
        line("Moment", consistency);
    }
    for object in &manifest.objects {
        let place = object.at.as_ref().map_or(String::new(), |at| format!(" in {at}"));
        text += &format!("\n{}{place}  {}, SHA-256 {}\n", object.name, size(object.bytes), object.sha256);
        let rows = object
            .tables
            .iter()
            .map(|table| vec![table.table.clone(), table.rows.map_or(String::new(), count), size(table.bytes)]);
        let heading = match object.format {
            ObjectFormat::Bucket => ["Bucket", "Objects", "Data"],
            _ => ["Table", "Rows", "Data"],
        };
        if !object.tables.is_empty() {
            text += &table(&heading, &[1, 2], rows);
        }
    }
    text
}
