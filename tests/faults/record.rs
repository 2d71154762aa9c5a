//! What a run went through, in lines that docs/reliability.md takes.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::fault::Fault;

/// Faults and how long the stream took to go on after each.
#[derive(Debug, Default)]
pub struct Record {
    kinds: BTreeMap<String, u32>,
    recoveries: Vec<Duration>,
    in_copy: u32,
    restarts: u32,
}

impl Record {
    /// A fault while tables were copied.
    pub fn in_copy(&mut self, fault: Fault) {
        self.in_copy += 1;
        self.count(fault);
        eprintln!("fault {:>4}  copy    {fault}", self.faults());
    }

    /// The copy ended before it had begun, and was started again.
    pub fn started_again(&mut self) {
        self.restarts += 1;
    }

    /// A fault that was over so long before the next change arrived.
    pub fn recovered(&mut self, fault: Fault, after: Duration) {
        self.recoveries.push(after);
        self.count(fault);
        eprintln!("fault {:>4}  {:>5.2} s {fault}", self.faults(), after.as_secs_f64());
    }

    fn count(&mut self, fault: Fault) {
        let name = format!("{fault:?}");
        let name = name.split(['(', ' ']).next().unwrap_or_default();
        *self.kinds.entry(name.to_owned()).or_default() += 1;
    }

    fn faults(&self) -> u32 {
        self.kinds.values().sum()
    }

    fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.recoveries.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted.get((sorted.len() * percent / 100).min(last)).map_or(0.0, Duration::as_secs_f64)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faults={} copy={} restarts={}", self.faults(), self.in_copy, self.restarts)?;
        for percent in [50, 99, 100] {
            write!(f, " p{percent}={:.2}", self.percentile(percent))?;
        }
        let kinds: Vec<String> = self.kinds.iter().map(|(kind, count)| format!("{kind}:{count}")).collect();
        write!(f, " kinds={}", kinds.join(","))?;
        let recoveries: Vec<String> = self.recoveries.iter().map(|time| time.as_millis().to_string()).collect();
        write!(f, " recoveries_ms={}", recoveries.join(","))
    }
}
