//! CPU time and memory of processes, as the kernel counts them (proc(5)).

use std::fs;

use pgstream_testkit::Cluster;

/// CPU seconds that a server has used so far: its postmaster, what that has waited for, and its living children.
pub fn cpu_of_server(server: &Cluster) -> f64 {
    let postmaster = server.postmaster_pid();
    loop {
        let Some(before) = Stat::of(postmaster) else { return 0.0 };
        let children = processes().filter_map(Stat::of).filter(|stat| stat.parent == postmaster);
        let children: u64 = children.map(|stat| stat.own).sum();
        // A child that ends meanwhile is in neither figure, or in both.
        if Stat::of(postmaster).is_some_and(|after| after.waited_for == before.waited_for) {
            return seconds(before.own + before.waited_for + children);
        }
    }
}

/// A server's postmaster and its living children.
pub fn processes_of(server: &Cluster) -> Vec<u32> {
    let postmaster = server.postmaster_pid();
    let is_one = |pid: &u32| *pid == postmaster || Stat::of(*pid).is_some_and(|stat| stat.parent == postmaster);
    processes().filter(is_one).collect()
}

/// CPU seconds that everything on this machine has used so far.
pub fn cpu_of_machine() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, (idle, waiting,) interrupts; a guest's time is in user.
    seconds([0, 1, 2, 5, 6].into_iter().filter_map(|n| ticks.get(n)).sum())
}

/// CPU seconds that a process and the children that it has waited for have used so far.
pub fn cpu_of(pid: u32) -> f64 {
    Stat::of(pid).map_or(0.0, |stat| seconds(stat.own + stat.waited_for))
}

/// CPU seconds of this program and of those that it has started and waited for.
pub fn cpu_of_us() -> f64 {
    cpu_of(std::process::id())
}

/// CPU seconds of all programs that this one has started and waited for.
pub fn cpu_of_children() -> f64 {
    Stat::of(std::process::id()).map_or(0.0, |stat| seconds(stat.waited_for))
}

/// The most memory that a process has had, in MiB.
pub fn peak_memory_of(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or_default() / 1024.0
}

struct Stat {
    parent: u32,
    own: u64,
    waited_for: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold anything; what follows it is numbers.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |n: usize| fields.get(n)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own: ticks(11)? + ticks(12)?,
            waited_for: ticks(13)? + ticks(14)?,
        })
    }
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

#[expect(clippy::cast_precision_loss, reason = "ticks of one run are far below 2^52")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}
