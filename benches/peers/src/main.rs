//! Other libraries that read archives, to be measured by `archive` of `pgmig-benches`: `peers READER WORK FILE`.
//!
//! They are in a package of their own, since Cargo turns a feature of a shared dependency on for all
//! that are built together: ours would be measured with their features, such as the checked
//! decompression of `lz4_flex`. Each is used as its documentation shows.

mod libpgdump;
mod pgarchive;
mod pgdumpx;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use pgmig_benches::work::Work;

/// Do one work with one library, and say what it amounted to
#[derive(Debug, Parser)]
struct Options {
    reader: Reader,
    work: Work,
    file: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Reader {
    Libpgdump,
    Pgarchive,
    Pgdumpx,
}

fn main() -> Result<()> {
    let Options { reader, work, file } = Options::parse();
    let amount = match (reader, work) {
        (Reader::Libpgdump, Work::List) => libpgdump::list(&file),
        (Reader::Libpgdump, Work::Stream) => libpgdump::stream(&file),
        (Reader::Libpgdump, Work::Fields) => libpgdump::fields(&file),
        (Reader::Pgarchive, Work::List) => pgarchive::list(&file),
        (Reader::Pgarchive, Work::Stream) => pgarchive::stream(&file),
        (Reader::Pgarchive, Work::Fields) => pgarchive::fields(&file),
        (Reader::Pgdumpx, Work::List) => pgdumpx::list(&file),
        (Reader::Pgdumpx, Work::Stream) => pgdumpx::stream(&file),
        (Reader::Pgdumpx, Work::Fields) => pgdumpx::fields(&file),
    }?;
    println!("{amount}");
    Ok(())
}
