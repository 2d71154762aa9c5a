//! The processes of a server: the postmaster and its children, and the signals that tests send them.

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// The children of a process; children of a postmaster never have children of their own.
pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    processes()
        .into_iter()
        .filter(|process| process.parent == parent.as_raw_nonzero().get() && !process.zombie)
        .filter_map(|process| Pid::from_raw(process.pid))
        .collect()
}

/// Stops the whole server as it stands, so that no child can be missed; returns the children.
pub(crate) fn freeze(postmaster: Pid) -> Vec<Pid> {
    // A stopped postmaster forks no more.
    signal(postmaster, Signal::STOP);
    let children = children(postmaster);
    children.iter().for_each(|&child| signal(child, Signal::STOP));
    children
}

/// Sends a signal; a process that is gone already is fine.
pub(crate) fn signal(pid: Pid, signal: Signal) {
    let _ = kill_process(pid, signal);
}

/// Waits until none of the processes runs; they still hold shared memory until then.
pub(crate) fn wait_gone(pids: &[Pid]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let running: BTreeSet<i32> = processes().into_iter().filter(|p| !p.zombie).map(|p| p.pid).collect();
        if !pids.iter().any(|pid| running.contains(&pid.as_raw_nonzero().get())) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct Process {
    pid: i32,
    parent: i32,
    /// Dead, but not yet collected by its parent.
    zombie: bool,
}

fn processes() -> Vec<Process> {
    if let Ok(entries) = fs::read_dir("/proc") {
        return entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|pid: i32| parse_stat(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
            .collect();
    }
    let listing = Command::new("ps").args(["-axo", "pid=,ppid=,stat="]).output().map(|out| out.stdout);
    String::from_utf8_lossy(&listing.unwrap_or_default()).lines().filter_map(parse_ps).collect()
}

/// `pid (name) state ppid ...`; the name may hold spaces and brackets.
fn parse_stat(pid: i32, stat: &str) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let zombie = fields.next()? == "Z";
    Some(Process { pid, parent: fields.next()?.parse().ok()?, zombie })
}

fn parse_ps(line: &str) -> Option<Process> {
    let mut fields = line.split_whitespace();
    let (pid, parent, state) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?, fields.next()?);
    Some(Process { pid, parent, zombie: state.starts_with('Z') })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_brackets_does_not_shift_the_fields() {
        let process = parse_stat(7, "7 (a) Z 3) S 42 7 7 0").unwrap();
        assert_eq!((process.parent, process.zombie), (42, false));
        assert!(parse_ps("  7   1 Z+").unwrap().zombie);
    }
}
