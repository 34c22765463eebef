//! Watson Speech: which databases and buckets its components have.

use pgmig_core::profile::Profile;

use super::destination::{Bucket, buckets};
use super::section::Section;
use super::source::{Parts, server};

/// A component of the product, and where its data is. A component that is not installed has none.
struct Component {
    name: &'static str,
    database: Option<&'static str>,
    bucket: Option<&'static str>,
}

const COMPONENTS: [Component; 4] = [
    Component { name: "sttCustomization", database: Some("stt-customization"), bucket: Some("stt-customization-icp") },
    Component { name: "ttsCustomization", database: Some("tts-customization"), bucket: None },
    Component { name: "sttAsync", database: Some("stt-async"), bucket: Some("stt-async-icp") },
    Component { name: "baseModels", database: None, bucket: Some("speech-service-base-models") },
];

/// The server of the databases in the section itself, that of the buckets in `minio`.
pub(super) fn watson_speech(section: &mut Section<'_>) -> Option<Parts> {
    let chosen = components(section);
    let is_chosen = |component: &&Component| chosen.as_ref().is_none_or(|names| names.contains(&component.name));
    let databases: Vec<_> = COMPONENTS.iter().filter(is_chosen).filter_map(|component| component.database).collect();
    let names: Vec<_> = COMPONENTS.iter().filter(is_chosen).filter_map(|component| component.bucket).collect();
    let minio = section.section("minio");
    let buckets: Option<Vec<Bucket>> = match minio {
        Some(mut minio) => {
            let read = buckets(&mut minio, &names);
            section.take(minio.finish(read))
        }
        None if names.is_empty() => Some(Vec::new()),
        None => {
            section.fault(section.line(), "`minio` is missing: the store of the buckets");
            None
        }
    };
    let server = server(section, |_| Some(databases.iter().map(|&name| name.to_owned()).collect()));
    let databases = server?;
    let databases = (!databases.databases.is_empty()).then_some(databases);
    // What somebody has named has to be there.
    Some(Parts {
        databases,
        buckets: buckets?,
        owners: Some(Profile::watson_speech()),
        may_be_absent: chosen.is_none(),
    })
}

/// The names of the buckets that there can be.
pub(super) fn bucket_names() -> impl Iterator<Item = &'static str> {
    COMPONENTS.iter().filter_map(|component| component.bucket)
}

/// Those that the section names, if it names some.
fn components(section: &mut Section<'_>) -> Option<Vec<&'static str>> {
    let mut chosen = Vec::new();
    for (line, text) in section.texts("components")? {
        match COMPONENTS.iter().find(|component| component.name == text) {
            Some(component) => chosen.push(component.name),
            None => {
                let names = COMPONENTS.map(|component| component.name);
                let known = pgmig_core::config_file::list(&names);
                section.fault(line, format!("`components` has one that is not known; there are {known}"));
            }
        }
    }
    Some(chosen)
}
