//! Whether what is to be copied fits on the disk of a target.
//!
//! ```text
//!  free now + what the disk may grow by  >=  what the source has more, and a fifth of it for WAL and sorting
//! ```

use super::{
    model::{Inspection, Side},
    sql::Check,
};

const GIB: f64 = 1_073_741_824.0;

/// The copy writes WAL, and building indexes sorts on disk.
const ON_TOP: f64 = 1.2;

impl Inspection {
    /// Compares free storage with what is to be copied; nothing where either is not known.
    #[must_use]
    pub fn room(&self) -> Option<Check> {
        if self.side != Side::Target {
            return None;
        }
        let (free, needed) = (self.storage.free.as_ref()?.bytes as f64, self.needs.bytes? as f64 * ON_TOP);
        let allocated = self.storage.allocated_gib?;
        let growth = f64::from((self.storage.maximum_gib.unwrap_or(allocated) - allocated).max(0)) * GIB;
        let grows = if growth > 0.0 { format!(", grows by {}", size(growth)) } else { String::new() };
        let detail = format!("{} free{grows}, {} wanted for the copy", size(free), size(needed));
        let lacking = ((needed - free - growth) / GIB).ceil().max(1.0);
        let fix = format!(
            "raise its storage to {} GiB or more (`aws rds modify-db-instance`, or modify-db-cluster, with --allocated-storage)",
            f64::from(allocated) + lacking
        );
        Some(Check::of("storage", free + growth >= needed, detail, &fix))
    }
}

/// For people.
fn size(bytes: f64) -> String {
    match bytes >= GIB {
        true => format!("{:.1} GiB", bytes / GIB),
        false => format!("{:.1} MiB", bytes / GIB * 1024.0),
    }
}
