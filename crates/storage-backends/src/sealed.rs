//! What of a manifest is for the holders of a key alone.

use serde::{Deserialize, Serialize};

use crate::manifest::{Manifest, Plaintext, TableContent};

/// What tells of the content of a backup. As JSON it is encrypted, and is the manifest's [`sealed`](Manifest::sealed).
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Content {
    /// Of the backup, so that it is not taken for that of another one.
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schema_version: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tenants: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    consistency: Option<String>,
    /// Of each object, in the order of the manifest.
    objects: Vec<ObjectContent>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ObjectContent {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plaintext: Option<Plaintext>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tables: Vec<TableContent>,
}

impl Content {
    /// Takes it out of a manifest.
    pub(crate) fn take(manifest: &mut Manifest) -> Self {
        let objects = manifest.objects.iter_mut().map(|object| ObjectContent {
            name: object.name.clone(),
            plaintext: object.plaintext.take(),
            tables: std::mem::take(&mut object.tables),
        });
        Self {
            objects: objects.collect(),
            id: manifest.id.clone(),
            schema_version: manifest.schema_version.take(),
            tenants: std::mem::take(&mut manifest.tenants),
            consistency: manifest.consistency.take(),
        }
    }

    /// Puts it where it was taken out. In words that complete "the manifest ...".
    pub(crate) fn put(self, manifest: &mut Manifest) -> Result<(), String> {
        let names = manifest.objects.iter().map(|object| &object.name);
        if self.id != manifest.id || !names.eq(self.objects.iter().map(|object| &object.name)) {
            return Err("has the sealed part of another one".to_owned());
        }
        manifest.schema_version = self.schema_version;
        manifest.tenants = self.tenants;
        manifest.consistency = self.consistency;
        for (object, content) in manifest.objects.iter_mut().zip(self.objects) {
            object.plaintext = content.plaintext;
            object.tables = content.tables;
        }
        Ok(())
    }

    /// Whether some of it is in the manifest.
    pub(crate) fn is_in(manifest: &Manifest) -> bool {
        let Manifest { schema_version, tenants, consistency, objects, .. } = manifest;
        let is_told = schema_version.is_some() || !tenants.is_empty() || consistency.is_some();
        is_told || objects.iter().any(|object| object.plaintext.is_some() || !object.tables.is_empty())
    }
}
