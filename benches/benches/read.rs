//! dumpfmt over archives of the demo store (70 MB of rows) that the real pg_dump 17 wrote. The
//! throughput is in bytes of the rows, not in those of the compressed file.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dumpfmt::{ArchiveReader, Block};
use pgmig_benches::archives;
use pgmig_tests::Compression;

const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(3);
/// The first that writes all compressions.
const MAJOR: u32 = 17;
const COMPRESSIONS: [Compression; 4] = [Compression::None, Compression::Gzip, Compression::Lz4, Compression::Zstd];

/// Reads an archive to its end and returns how many bytes there were.
type Work = fn(&mut ArchiveReader<File>) -> u64;

fn read(c: &mut Criterion) {
    let files = archives(MAJOR, 1, &COMPRESSIONS).expect("the archives are there");
    let named: Vec<_> = COMPRESSIONS.iter().map(|c| format!("{c:?}").to_lowercase()).zip(&files).collect();
    let bytes = stream(&mut open(&files[0]));
    let work: [(&str, Work); 4] = [("stream", stream), ("batches", batches), ("fields", fields), ("verify", verify)];

    c.bench_function("contents", |b| {
        let head = contents(&files[0]);
        b.iter(|| black_box(ArchiveReader::new(&head[..]).expect("the archive is whole").toc().entries().len()));
    });
    for (name, work) in work {
        let mut group = c.benchmark_group(name);
        group.sample_size(10).warm_up_time(WARM_UP).measurement_time(MEASURED).throughput(Throughput::Bytes(bytes));
        for (compression, file) in &named {
            group.bench_function(compression, |b| b.iter(|| black_box(work(&mut open(file)))));
        }
    }
}

fn open(file: &Path) -> ArchiveReader<File> {
    ArchiveReader::new(File::open(file).expect("the archive is there")).expect("the archive is whole")
}

/// The header and the table of contents alone, in memory.
fn contents(file: &PathBuf) -> Vec<u8> {
    let mut head = fs::read(file).expect("the archive is there");
    head.truncate(open(file).position() as usize);
    head
}

/// Every byte of every entry.
fn stream(archive: &mut ArchiveReader<File>) -> u64 {
    let (mut buffer, mut total) = (vec![0; 64 << 10], 0);
    while let Some(block) = archive.next_block().expect("the archive is whole") {
        let Block::Data(mut data) = block else { continue };
        loop {
            match data.read(&mut buffer).expect("the archive is whole") {
                0 => break,
                read => total += read as u64,
            }
        }
    }
    total
}

/// Rows as many at once as are in memory, not looked at.
fn batches(archive: &mut ArchiveReader<File>) -> u64 {
    let mut total = 0;
    while let Some(block) = archive.next_block().expect("the archive is whole") {
        let Block::Data(data) = block else { continue };
        let mut rows = data.rows();
        while let Some(batch) = rows.next_batch().expect("the archive is whole") {
            total += batch.raw().len() as u64;
        }
    }
    total
}

/// Rows one by one, each split into all its fields.
fn fields(archive: &mut ArchiveReader<File>) -> u64 {
    let mut total = 0;
    while let Some(block) = archive.next_block().expect("the archive is whole") {
        let Block::Data(data) = block else { continue };
        let mut rows = data.rows();
        while let Some(row) = rows.next_row().expect("the archive is whole") {
            total += row.fields().map(|field| field.raw().len() as u64).sum::<u64>();
        }
    }
    total
}

fn verify(archive: &mut ArchiveReader<File>) -> u64 {
    archive.verify(|_| {}).expect("the archive is whole").iter().map(|entry| entry.bytes).sum()
}

criterion_group!(benches, read);
criterion_main!(benches);
