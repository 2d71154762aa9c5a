//! What a test looks at without asking the API.

use std::collections::BTreeMap;

use crate::world::World;

/// An instance or a cluster as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The attached group.
    pub group: String,
    /// `available`, …
    pub status: &'static str,
    /// `in-sync`, …
    pub apply_status: &'static str,
    /// Values of the group that the server was started with.
    pub in_force: BTreeMap<String, String>,
    /// Reboots that were begun.
    pub reboots: usize,
}

/// A parameter group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterGroup {
    /// Its name; clusters and instances have names of their own.
    pub name: String,
    /// What somebody set.
    pub values: BTreeMap<String, String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl World {
    pub(crate) fn seen(&self, id: &str) -> Option<Seen> {
        self.let_time_pass();
        let mut state = self.state();
        let own = state.attachment(id)?;
        let look = own.look();
        Some(Seen {
            group: look.group,
            status: look.status,
            apply_status: look.apply,
            in_force: own.in_force.clone(),
            reboots: own.reboots,
        })
    }

    pub(crate) fn groups(&self) -> Vec<ParameterGroup> {
        let state = self.state();
        let groups = state.groups.iter().map(|((_, name), group)| ParameterGroup {
            name: name.clone(),
            values: group.values.clone(),
            tags: group.tags.iter().cloned().collect(),
        });
        groups.collect()
    }
}
