//! Markdown tables of what was measured.

use std::fmt::Write as _;
use std::time::Duration;

use crate::Usage;

/// The runs of one of the ways to do some work.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// What was run.
    pub name: String,
    runs: Vec<Usage>,
    /// What came of it, in bytes, such as the size of a database.
    pub result_bytes: Option<u64>,
    /// What is to be known of the numbers, or why there are none.
    pub remark: Option<String>,
}

impl Sample {
    /// No runs yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Adds a run.
    pub fn add(&mut self, run: Usage) {
        self.runs.push(run);
    }

    /// Whether there was no run.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The median of the times, and the most memory of all runs.
    pub fn usage(&self) -> Usage {
        let middle = |of: fn(&Usage) -> Duration| {
            let mut all: Vec<_> = self.runs.iter().map(of).collect();
            all.sort();
            all.get(all.len() / 2).copied().unwrap_or_default()
        };
        Usage {
            wall: middle(|run| run.wall),
            cpu: middle(|run| run.cpu),
            peak_rss: self.runs.iter().map(|run| run.peak_rss).max().unwrap_or_default(),
        }
    }
}

/// Ways to do the same work; the first one is what the others are compared with.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// The work.
    pub title: String,
    /// The heading over what comes of it, where that has a size.
    pub result: Option<&'static str>,
    /// The ways.
    pub samples: Vec<Sample>,
}

impl Table {
    /// In Markdown: seconds, megabytes of 10^6 bytes, and in brackets the ratio to the first row.
    pub fn markdown(&self) -> String {
        let whose = if self.result.is_some() { "client's " } else { "" };
        let mut text = format!("| {} | wall | {whose}CPU | {whose}peak memory |", self.title);
        let mut line = "| --- | ---: | ---: | ---: |".to_owned();
        if let Some(result) = self.result {
            write!(text, " {result} |").expect("text can be appended to");
            line.push_str(" ---: |");
        }
        write!(text, "\n{line}\n").expect("text can be appended to");
        let first = self.samples.first().map(Sample::usage).unwrap_or_default();
        for (index, sample) in self.samples.iter().enumerate() {
            let usage = sample.usage();
            let ratio = |own: f64, base: f64| if index == 0 { String::new() } else { format!(" ({:.2}x)", own / base) };
            let time = |of: fn(&Usage) -> Duration| {
                let (own, base) = (of(&usage).as_secs_f64(), of(&first).as_secs_f64());
                format!("{own:.2} s{}", ratio(own, base))
            };
            let (wall, cpu) = (time(|usage| usage.wall), time(|usage| usage.cpu));
            let memory = megabytes(usage.peak_rss) + &ratio(usage.peak_rss as f64, first.peak_rss as f64);
            let name = match &sample.remark {
                Some(remark) => format!("{}: {remark}", sample.name),
                None => sample.name.clone(),
            };
            if sample.runs.is_empty() {
                write!(text, "| {name} | | | |").expect("text can be appended to");
            } else {
                write!(text, "| {name} | {wall} | {cpu} | {memory} |").expect("text can be appended to");
            }
            if self.result.is_some() {
                let size = sample.result_bytes.map(megabytes).unwrap_or_default();
                write!(text, " {size} |").expect("text can be appended to");
            }
            text.push('\n');
        }
        text
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_medians_and_the_ratio_to_its_first_row() {
        let run = |wall, peak_rss| Usage { wall: Duration::from_secs(wall), cpu: Duration::from_millis(500), peak_rss };
        let mut peer = Sample::new("peer");
        [run(9, 5_000_000), run(4, 7_000_000), run(1, 6_000_000)].into_iter().for_each(|run| peer.add(run));
        let mut ours = Sample { result_bytes: Some(12_000_000), ..Sample::new("ours") };
        ours.add(run(1, 1_000_000));
        let other = Sample { remark: Some("cannot".into()), ..Sample::new("other") };
        let table = Table { title: "work".into(), result: Some("left"), samples: vec![peer, ours, other] };
        assert_eq!(
            table.markdown(),
            "| work | wall | client's CPU | client's peak memory | left |\n\
             | --- | ---: | ---: | ---: | ---: |\n\
             | peer | 4.00 s | 0.50 s | 7 MB |  |\n\
             | ours | 1.00 s (0.25x) | 0.50 s (1.00x) | 1 MB (0.14x) | 12 MB |\n\
             | other: cannot | | | |  |\n"
        );
    }
}
