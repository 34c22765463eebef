//! `backup config check`: every fault of the configuration.

use serde::Serialize;
use terminal::text::counted;

use super::Context;
use crate::failure::Failure;

#[derive(Serialize)]
struct Checked {
    version: u32,
    sources: usize,
    destinations: usize,
    jobs: usize,
}

pub(crate) fn run(context: &Context) -> Result<(), Failure> {
    context.config.check()?;
    let [sources, destinations, jobs] = context.config.counts();
    if context.is_json() {
        terminal::print_json(&Checked { version: 1, sources, destinations, jobs })?;
    } else {
        let [sources, destinations, jobs] = [(sources, "source"), (destinations, "destination"), (jobs, "job")]
            .map(|(n, word)| counted(n as u64, word));
        terminal::print(&format!("no fault: {sources}, {destinations}, {jobs}\n"))?;
    }
    Ok(())
}
