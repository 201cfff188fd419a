//! What a process holds in memory, as the kernel counts it: resident bytes. Linux only; elsewhere nothing is known. Called by
//! the part `files`; measures other processes than this one.

use std::fs;

/// What it holds now.
pub(super) fn now(pid: u32) -> Option<u64> {
    field(pid, "VmRSS:")
}

/// The most that it has held since it began, or since [`forget_peak`].
pub(super) fn peak(pid: u32) -> Option<u64> {
    field(pid, "VmHWM:")
}

/// From here on the peak is counted anew (proc(5): `clear_refs`).
pub(super) fn forget_peak(pid: u32) -> Option<u64> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").ok()?;
    now(pid)
}

fn field(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    kib(&status, name).map(|kib| kib * 1024)
}

fn kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_their_names() {
        let status = "Name:\thalite\nVmHWM:\t  120 kB\nVmRSS:\t   64 kB\n";
        assert_eq!(kib(status, "VmRSS:"), Some(64));
        assert_eq!(kib(status, "VmHWM:"), Some(120));
        assert_eq!(kib(status, "VmSwap:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_holds_something() {
        let own = std::process::id();
        assert!(now(own).unwrap() > 0);
        assert!(peak(own) >= forget_peak(own).map(|now| now / 2));
        assert_eq!(peak(u32::MAX), None);
    }
}
