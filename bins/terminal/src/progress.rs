//! Progress bars, on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Progress through `total` bytes.
#[must_use]
pub fn bytes(total: u64) -> ProgressBar {
    bar(total, "    {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left")
}

/// Progress through `total` rows.
#[must_use]
pub fn rows(total: u64) -> ProgressBar {
    bar(total, "    {bar:30} {human_pos} of {human_len} rows, {per_sec}, {eta} left  {msg}")
}

/// Progress through bytes of which more and more are known, with a message behind it.
#[must_use]
pub fn growing_bytes() -> ProgressBar {
    bar(0, "    {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}  {msg}")
}

/// Progress through bytes of which nobody knows how many there are.
#[must_use]
pub fn unknown_bytes() -> ProgressBar {
    bar(0, "    {bytes}, {bytes_per_sec}")
}

fn bar(total: u64, template: &str) -> ProgressBar {
    if !crate::shows_progress() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
    // The templates are ours; should one be wrong, the default does as well.
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}
