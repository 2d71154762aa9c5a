//! A running copy, shown: bars on a terminal, a line now and then elsewhere.
//!
//! ```text
//!  engine ──events──> View ──every 200 ms──> bars of running tables + one for all   (stderr is a terminal)
//!         ──atomics──^     └─every 10 s────> one log line: rows, bytes, rate, ETA   (anything else)
//! ```
//! The engine logs its own steps (phases, finished tables, notices); nothing is said twice here.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use console::Term;
use indicatif::{HumanBytes, HumanCount, HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use pgstream_engine::snapshot::{Event, Phase, TableProgress};
use tokio::sync::mpsc::UnboundedReceiver;

/// How often bars move.
const FRAME: Duration = Duration::from_millis(200);

/// How often a line is logged where there are no bars.
const LINE: Duration = Duration::from_secs(10);

/// More running tables than this are only counted.
const BARS: usize = 12;

/// Standard error, shared between bars and log lines: a line pushes the bars down instead of cutting through them.
#[derive(Debug, Clone)]
pub struct Screen {
    bars: MultiProgress,
    terminal: bool,
}

impl Screen {
    /// Bars when standard error is a terminal and they are wanted.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let terminal = !quiet && Term::stderr().is_term();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { bars: MultiProgress::with_draw_target(target), terminal }
    }

    /// Shows a copy until its engine is done with it.
    pub async fn watch(self, mut events: UnboundedReceiver<Event>) {
        let mut view = View::new(&self);
        let mut tick = tokio::time::interval(if self.terminal { FRAME } else { LINE });
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => view.apply(event),
                    None => break,
                },
                _ = tick.tick() => view.show(),
            }
        }
        view.clear();
    }
}

/// For the log: whole writes appear above the bars.
impl io::Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bars.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// What is known of the copy.
struct View<'a> {
    screen: &'a Screen,
    overall: ProgressBar,
    running: HashMap<String, (Arc<TableProgress>, Option<ProgressBar>)>,
    tables: Vec<Arc<TableProgress>>,
    finished: HashSet<String>,
    phase: Phase,
    schema: Option<(usize, usize)>,
    since: Instant,
}

impl<'a> View<'a> {
    fn new(screen: &'a Screen) -> Self {
        let overall = screen.bars.add(ProgressBar::new(0));
        overall.set_style(style("{prefix:.bold} [{bar:30.green}] {msg}"));
        Self {
            screen,
            overall,
            running: HashMap::new(),
            tables: Vec::new(),
            finished: HashSet::new(),
            phase: Phase::Preparing,
            schema: None,
            since: Instant::now(),
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Phase(phase) => {
                self.phase = phase;
                self.schema = None;
            }
            Event::Planned { tables, .. } => {
                self.tables = tables;
                self.since = Instant::now();
            }
            Event::TableStarted(table) => {
                let bar = (self.screen.terminal && self.running.len() < BARS).then(|| self.table_bar(&table));
                self.running.insert(table.name.to_string(), (table, bar));
            }
            Event::TableFinished(table) => {
                let name = table.name.to_string();
                if let Some((_, Some(bar))) = self.running.remove(&name) {
                    bar.finish_and_clear();
                }
                self.finished.insert(name);
            }
            Event::Schema { done, total } => self.schema = Some((done, total)),
            // The engine has logged it, through this screen.
            Event::Notice(_) => {}
        }
    }

    fn table_bar(&self, table: &TableProgress) -> ProgressBar {
        let bar = ProgressBar::new(table.estimated_bytes);
        bar.set_style(style("  {prefix:28!} [{bar:30.cyan}] {binary_bytes:>11} {binary_bytes_per_sec:>13}"));
        bar.set_prefix(format!("{}.{}", printable(&table.name.schema), printable(&table.name.name)));
        self.screen.bars.insert_before(&self.overall, bar)
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals { elapsed: self.since.elapsed(), ..Totals::default() };
        for table in &self.tables {
            let bytes = table.bytes();
            totals.rows += table.rows();
            totals.bytes += bytes;
            totals.expected += table.estimated_bytes;
            totals.covered += if self.finished.contains(&table.name.to_string()) {
                table.estimated_bytes
            } else {
                bytes.min(table.estimated_bytes)
            };
        }
        totals
    }

    fn show(&mut self) {
        let totals = self.totals();
        if !self.screen.terminal {
            if self.phase == Phase::Data && totals.bytes > 0 {
                tracing::info!(
                    tables = format!("{}/{}", self.finished.len(), self.tables.len()),
                    running = self.running.len(),
                    "copying: {totals}"
                );
            }
            return;
        }
        for (table, bar) in self.running.values() {
            if let Some(bar) = bar {
                let bytes = table.bytes();
                // What is on the wire can be more than what is on the disk.
                bar.set_length(table.estimated_bytes.max(bytes));
                bar.set_position(bytes);
            }
        }
        self.overall.set_length(totals.expected.max(1));
        self.overall.set_position(totals.covered);
        self.overall.set_prefix(self.phase.label());
        let mut message = format!("{}/{} tables", self.finished.len(), self.tables.len());
        if let Some((done, total)) = self.schema {
            message.push_str(&format!(", schema {done}/{total}"));
        }
        if totals.bytes > 0 {
            message.push_str(&format!(", {totals}"));
        }
        self.overall.set_message(message);
    }

    fn clear(&mut self) {
        for (_, bar) in self.running.values() {
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
        }
        self.overall.finish_and_clear();
    }
}

/// Sums over all tables of a copy.
#[derive(Debug, Default)]
struct Totals {
    rows: u64,
    bytes: u64,
    /// Size of all tables on the source's disk.
    expected: u64,
    /// How much of it is done.
    covered: u64,
    elapsed: Duration,
}

impl Totals {
    fn per_second(&self, count: u64) -> u64 {
        let millis = u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        count.saturating_mul(1000) / millis
    }

    /// Time to go at the pace so far.
    fn left(&self) -> Option<Duration> {
        let open = self.expected.saturating_sub(self.covered);
        if self.covered == 0 || open == 0 {
            return None;
        }
        let seconds = u128::from(open) * self.elapsed.as_millis() / u128::from(self.covered) / 1000;
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX)))
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} rows ({}/s), {} ({}/s)",
            HumanCount(self.rows),
            HumanCount(self.per_second(self.rows)),
            HumanBytes(self.bytes),
            HumanBytes(self.per_second(self.bytes))
        )?;
        match self.left() {
            Some(left) => write!(f, ", {} left", HumanDuration(left)),
            None => Ok(()),
        }
    }
}

/// A template that is wrong shows as a plain bar.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

/// A hostile name cannot move the cursor.
fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_say_rate_and_time_to_go() {
        let totals = Totals {
            rows: 2_000_000,
            bytes: 512 << 20,
            expected: 1 << 30,
            covered: 256 << 20,
            elapsed: Duration::from_secs(20),
        };
        assert_eq!(totals.to_string(), "2,000,000 rows (100,000/s), 512.00 MiB (25.60 MiB/s), 60 seconds left");
        let unknown = Totals::default();
        assert_eq!(unknown.left(), None);
    }

    #[test]
    fn names_cannot_draw() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
